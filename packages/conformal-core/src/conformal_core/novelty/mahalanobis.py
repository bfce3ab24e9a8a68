"""Mahalanobis distance to the training features, or to the nearest class mean."""

import math
from typing import Any

from conformal_core._arrays import array_namespace, device
from conformal_core._convert import as_labels
from conformal_core._precision import quietly
from conformal_core._state import State
from conformal_core.checks import check_count, check_nonnegative
from conformal_core.novelty.base import FeatureScore, slices, squared_distances

Array = Any

_ONE_HOT = 1 << 22  # elements of rows by classes at a time
_LEAST = 1e-150  # variance if all rows are equal, so any other row is extremely far


class Mahalanobis(FeatureScore):
    """Squared Mahalanobis distance to the nearest class mean, with one covariance for all classes.

    Without ``classes`` it is the distance to the mean of all rows with their covariance, and needs no labels.

    Parameters
    ----------
    classes
        Number of classes K. If None, all rows form one group.
    ridge
        Fraction of the mean variance added to every direction, at least 0. Use more than 0 if there may be fewer rows
        than dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a number of its kind or out of range.

    Notes
    -----
    Lee, Lee, Lee and Shin, *A simple unified framework for detecting out-of-distribution samples and adversarial
    attacks* (2018), on one layer. Means and covariance are running sums in float64, so training in parts equals
    training at once: O(N d (d + K)) for N rows of width d. The first score after an update costs O(d³), each score
    O(d (d + K)). The state stays in the library and on the device of the features.

    Examples
    --------
    >>> import numpy as np
    >>> score = Mahalanobis(classes=2, ridge=0.0)
    >>> score.update(np.asarray([[0.0, 1.0], [0.0, -1.0], [9.0, 1.0], [11.0, -1.0]]), np.asarray([0, 0, 1, 1]))
    >>> score(np.asarray([[0.0, 0.0], [10.0, 3.0]])).round(6)
    array([ 0., 18.])
    """

    _kind, _saved = "Mahalanobis", ("classes", "ridge")

    def __init__(self, *, classes: int | None = None, ridge: float = 1e-3) -> None:
        self._classes = None if classes is None else check_count("classes", classes)
        self._ridge = check_nonnegative("ridge", ridge)
        self._counts: Array | None = None
        self._means: Array | None = None
        self._scatter: Array | None = None
        self._ready: tuple[Array, Array, Array] | None = None

    @property
    def _sample(self) -> Array | None:
        return self._means

    def _learn(self, rows: Array, groups: Array, xp: Any) -> None:
        for part in slices(rows.shape[0], max(1, _ONE_HOT // (self._classes or 1))):
            self._take(rows[part, :], groups[part], xp)
        self._ready = None

    def _score(self, features: Array, xp: Any) -> Array:
        centre, whitening, points = (xp.astype(x, features.dtype, copy=False) for x in self.whitened())
        with quietly(features):
            return xp.asarray(
                xp.min(squared_distances((features - centre) @ xp.matrix_transpose(whitening), points), axis=-1)
            )

    def whitened(self) -> tuple[Array, Array, Array]:
        """Return c (d,), W (d, d) and points (K, d) in float64: the distance is min over k of ‖W (h − c) − points_k‖².

        Points are W (μ_k − c), where c is the mean of the class means μ_k; classes without rows are omitted. Raises
        ValueError before any update.
        """
        if self._ready is None:
            if self._means is None or self._counts is None or self._scatter is None:
                raise ValueError(f"{self._kind} must learn from training features before it is asked")
            xp = array_namespace(means=self._means)
            width = self._means.shape[1]
            covariance = self._scatter / xp.sum(self._counts)
            level = xp.linalg.trace(covariance) / width
            identity = xp.eye(width, dtype=xp.float64, device=device(covariance))
            root = xp.linalg.cholesky(covariance + (self._ridge * level + _LEAST) * identity)
            whitening = xp.linalg.inv(root)
            known = xp.take(self._means, xp.nonzero(self._counts > 0)[0], axis=0)
            centre = xp.mean(known, axis=0)
            self._ready = centre, whitening, (known - centre) @ xp.matrix_transpose(whitening)
        return self._ready

    def _learned(self) -> State:
        return {"counts": self._counts, "means": self._means, "scatter": self._scatter}

    def _restore(self, state: State) -> None:
        self._counts, self._means, self._scatter = state["counts"], state["means"], state["scatter"]
        self._ready = None

    def _groups(self, features: Array, labels: Array | None, xp: Any, check: bool | None) -> Array:
        where = device(features)
        if self._classes is None:
            return xp.zeros((math.prod(features.shape[:-1]),), dtype=xp.int64, device=where)
        if labels is None:
            raise TypeError("labels must be given to a score that was made for classes, got none")
        of_classes = xp.empty((*features.shape[:-1], self._classes), dtype=features.dtype, device=where)
        return xp.reshape(as_labels(labels, of_classes, check=check), (-1,))

    def _take(self, rows: Array, groups: Array, xp: Any) -> None:
        """Merge the sums of some rows into those there, by the update of Chan, Golub and LeVeque (1983)."""
        where = device(rows)
        count = self._classes or 1
        ids = xp.arange(count, dtype=xp.int64, device=where)
        member = xp.astype(groups[:, None] == ids, xp.float64)
        counts = xp.sum(member, axis=0)
        means = (xp.matrix_transpose(member) @ rows) / xp.where(counts > 0, counts, xp.ones_like(counts))[:, None]
        apart = rows - xp.take(means, groups, axis=0)
        scatter = xp.matrix_transpose(apart) @ apart
        if self._counts is None or self._means is None or self._scatter is None:
            self._counts, self._means, self._scatter = counts, means, scatter
            return
        both = self._counts + counts
        fraction = counts / xp.where(both > 0, both, xp.ones_like(both))
        shift = means - self._means
        moved = (self._counts * fraction)[:, None] * shift
        self._scatter = self._scatter + scatter + xp.matrix_transpose(shift) @ moved
        self._means = self._means + fraction[:, None] * shift
        self._counts = both
