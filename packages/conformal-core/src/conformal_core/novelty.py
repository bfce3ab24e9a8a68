"""Mahalanobis distance to the training features, or to the nearest class mean.

d: width, K: groups, G: K, or 1 if only the sum of the scatter matrices is kept.
"""

import math
from typing import Any, Literal, NamedTuple

from conformal_core._arrays import array_namespace, device, quietly, to_host
from conformal_core._convert import as_floating, as_labels
from conformal_core._settings import Saved
from conformal_core._state import State
from conformal_core.checks import check_choice, check_count, check_finite, check_interval, check_others

Array = Any
LedoitWolf = Literal["ledoit-wolf"]

_ONE_HOT = 1 << 22  # elements of rows by classes at a time
_LEAST = 1e-150  # variance if all rows are equal, so any other row is extremely far

_LEAST_SHRINKAGE = (
    1e-6  # shrinkage at which the Cholesky factor of a singular covariance still exists in double precision
)


class Mahalanobis(Saved):
    """Squared Mahalanobis distance to the nearest class mean, with one covariance for all classes.

    Without ``classes`` it is the distance to the mean of all rows, and needs no labels. The covariance is shrunk
    towards a multiple of the identity: (1 − s) Σ + s tr(Σ)/d · I.

    Parameters
    ----------
    classes
        Number of classes K. If None, all rows form one group.
    shrinkage
        s in [0, 1], or ``"ledoit-wolf"``, which estimates the s of the smallest expected squared error, at least 10⁻⁶.
        With 0, there must be more rows than dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind or out of range.

    Notes
    -----
    Lee, Lee, Lee and Shin, *A simple unified framework for detecting out-of-distribution samples and adversarial
    attacks* (2018), on one layer; Ledoit and Wolf, *A well-conditioned estimator for large-dimensional covariance
    matrices* (2004), applied to the rows less their class means. Moments are running sums in float64, in the library
    and on the device of the features: training in parts equals training at once. N rows of width d cost O(N d (d + K)),
    the state O(d (d + K)) numbers (O(K d²) with Ledoit–Wolf shrinkage), the first score O(d³), each score O(d (d + K)).

    Examples
    --------
    >>> import numpy as np
    >>> score = Mahalanobis(classes=2, shrinkage=0.0)
    >>> score.update(np.asarray([[0.0, 1.0], [0.0, -1.0], [9.0, 1.0], [11.0, -1.0]]), np.asarray([0, 0, 1, 1]))
    >>> score(np.asarray([[0.0, 0.0], [10.0, 3.0]])).round(6)
    array([ 0., 18.])
    """

    _kind, _saved = "Mahalanobis", ("classes", "shrinkage")

    def __init__(self, *, classes: int | None = None, shrinkage: float | LedoitWolf = "ledoit-wolf") -> None:
        self._classes = None if classes is None else check_count("classes", classes)
        self._shrinkage: float | LedoitWolf = (
            check_choice("shrinkage", shrinkage, LedoitWolf)
            if isinstance(shrinkage, str)
            else check_interval("shrinkage", shrinkage, "[0, 1]")
        )
        self._moments: Moments | None = None
        self._ready: tuple[Array, Array, Array] | None = None

    def update(self, features: Array, labels: Array | None = None, *, check: bool | None = None) -> None:
        """Add training features (..., d), and their labels (...) in 0..K − 1 if there are ``classes``.

        Raises
        ------
        TypeError, ValueError
            If labels are missing, or an argument has the wrong kind, library, shape or range.
        """
        features, xp = self._checked(features, check)
        groups = self._groups(features, labels, xp, check)
        rows = xp.reshape(features, (math.prod(features.shape[:-1]), features.shape[-1]))
        if self._moments is not None:
            array_namespace(learned=self._moments.means, features=features)
        rows = xp.astype(rows, xp.float64, copy=False)  # as sums over many rows need
        count, estimated = self._classes or 1, self._shrinkage == "ledoit-wolf"
        step = max(1, _ONE_HOT // count)
        for start in range(0, rows.shape[0], step):
            part = slice(start, min(start + step, rows.shape[0]))
            sums = moments(rows[part, :], groups[part], count, fourth=estimated)
            self._moments = sums if self._moments is None else merged(self._moments, sums)
            self._ready = None

    def __call__(self, features: Array, *, check: bool | None = None) -> Array:
        """Return the scores (...) of features (..., d), in single precision or better; ValueError before any update."""
        features, xp = self._checked(features, check)
        wide = xp.isdtype(features.dtype, (xp.float32, xp.float64))
        features = features if wide else xp.astype(features, xp.float32)
        centre, whitening, points = (xp.astype(x, features.dtype, copy=False) for x in self.whitened())
        with quietly(features):
            distances = _squared_distances((features - centre) @ xp.matrix_transpose(whitening), points, xp)
            return xp.asarray(xp.min(distances, axis=-1))

    def merge(self, *others: "Mahalanobis") -> None:
        """Add what other scores learned, such as those of processes with disjoint parts of the training rows.

        Raises
        ------
        TypeError, ValueError
            If another score is this one, or of another kind, library, width or other settings; nothing is added then.
        """
        check_others(self, others)
        total = self._moments
        for other in others:
            if other._saved_settings() != self._saved_settings():
                raise ValueError(f"others must have the settings of {self!r}, got {other!r}")
            if other._moments is not None and total is not None:
                width, own = other._moments.means.shape[1], total.means.shape[1]
                if width != own:
                    raise ValueError(f"others must have learned features of width {own}, got {width}")
                total = merged(total, other._moments)
            else:
                total = other._moments if total is None else total
        self._moments, self._ready = total, None

    def whitened(self) -> tuple[Array, Array, Array]:
        """Return c (d,), W (d, d) and points (K, d) in float64: the distance is min over k of ‖W (h − c) − points_k‖².

        Points are W (μ_k − c), where c is the mean of the class means μ_k; classes without rows are omitted. Raises
        ValueError before any update.
        """
        if self._ready is None:
            if self._moments is None:
                raise ValueError(f"{self._kind} must be fitted before use: call update() with training features")
            counts, means = self._moments.counts, self._moments.means
            xp = array_namespace(means=means)
            identity = xp.eye(means.shape[1], dtype=xp.float64, device=device(means))
            shrinkage = None if self._shrinkage == "ledoit-wolf" else self._shrinkage
            root = xp.linalg.cholesky(covariance(self._moments, shrinkage) + _LEAST * identity)
            whitening = xp.linalg.inv(root)
            known = xp.take(means, xp.nonzero(counts > 0)[0], axis=0)
            centre = xp.mean(known, axis=0)
            self._ready = centre, whitening, (known - centre) @ xp.matrix_transpose(whitening)
        return self._ready

    def _learned(self) -> State:
        return dict.fromkeys(Moments._fields) if self._moments is None else self._moments._asdict()

    def _restore(self, state: State) -> None:
        sums = Moments(*(state[name] for name in Moments._fields))
        self._moments, self._ready = None if sums.means is None else sums, None

    def _checked(self, features: Array, check: bool | None) -> tuple[Array, Any]:
        means = None if self._moments is None else self._moments.means
        features, width = as_floating("features", features, means), None if means is None else int(means.shape[1])
        xp = array_namespace(features=features)
        if features.ndim == 0 or features.shape[-1] == 0 or width not in {None, features.shape[-1]}:
            wanted = "d" if width is None else width
            raise ValueError(f"features must have shape (..., {wanted}), got {tuple(features.shape)}")
        check_finite("features", features, xp, check=check)
        return features, xp

    def _groups(self, features: Array, labels: Array | None, xp: Any, check: bool | None) -> Array:
        where = device(features)
        if self._classes is None:
            return xp.zeros((math.prod(features.shape[:-1]),), dtype=xp.int64, device=where)
        if labels is None:
            raise TypeError("labels must be given to a score that was made for classes, got none")
        of_classes = xp.empty((*features.shape[:-1], self._classes), dtype=features.dtype, device=where)
        return xp.reshape(as_labels(labels, of_classes, check=check), (-1,))


def _squared_distances(rows: Array, points: Array, xp: Any) -> Array:
    """Return squared distances (..., K) of rows (..., d) to points (K, d); infinite where they are not finite."""
    both = rows @ xp.matrix_transpose(points)
    distances = xp.sum(rows * rows, axis=-1)[..., None] - 2.0 * both + xp.sum(points * points, axis=-1)
    distances = xp.where(distances < 0, xp.zeros_like(distances), distances)  # rounding
    return xp.where(xp.isnan(distances), xp.full_like(distances, xp.inf), distances)


class Moments(NamedTuple):
    """Sums over the rows c of each group, less the mean of the group."""

    counts: Array  # (K,)
    means: Array  # (K, d)
    scatter: Array  # (G, d, d): Σ c cᵀ
    cubes: Array | None = None  # (K, d): Σ ‖c‖² c; None if there is no Ledoit–Wolf estimate, as for `fourth`
    fourth: Array | None = None  # (): Σ ‖c‖⁴ over all groups


def moments(rows: Array, groups: Array, count: int, *, fourth: bool) -> Moments:
    """Return the moments of rows (N, d) in groups (N,) of 0..K − 1, with scatter matrices of each if ``fourth``."""
    xp = array_namespace(rows=rows)
    member = xp.astype(groups[:, None] == xp.arange(count, dtype=xp.int64, device=device(rows)), xp.float64)
    counts = xp.sum(member, axis=0)
    means = (xp.matrix_transpose(member) @ rows) / xp.where(counts > 0, counts, xp.ones_like(counts))[:, None]
    apart = rows - xp.take(means, groups, axis=0)
    if not fourth:
        return Moments(counts, means, (xp.matrix_transpose(apart) @ apart)[None, ...])
    with quietly(rows):  # fourth powers overflow long before squares
        squares = xp.sum(apart * apart, axis=-1)
        cubes = xp.matrix_transpose(member) @ (squares[:, None] * apart)
        return Moments(counts, means, _scatters(apart, groups, counts), cubes, xp.sum(squares * squares))


def merged(one: Moments, other: Moments) -> Moments:
    """Return the moments of the rows of both, by the update of Chan, Golub and LeVeque (1983)."""
    xp = array_namespace(one=one.means, other=other.means)
    both = one.counts + other.counts
    fraction = (other.counts / xp.where(both > 0, both, xp.ones_like(both)))[:, None]
    shift = other.means - one.means
    with quietly(shift):
        one, other = _moved(one, fraction * shift), _moved(other, (fraction - 1.0) * shift)
        sums = [None if a is None or b is None else a + b for a, b in zip(one[2:], other[2:], strict=True)]
    return Moments(both, one.means, *sums)


def covariance(sums: Moments, shrinkage: float | None) -> Array:
    """Return (1 − s) Σ + s tr(Σ)/d · I (d, d) for the common covariance Σ; s is that of Ledoit and Wolf if None."""
    xp = array_namespace(scatter=sums.scatter)
    scatter, count = xp.sum(sums.scatter, axis=0), xp.sum(sums.counts)
    width, level = scatter.shape[0], xp.linalg.trace(scatter)
    part = ledoit_wolf(sums) if shrinkage is None else shrinkage
    identity = xp.eye(width, dtype=xp.float64, device=device(scatter))
    return ((1.0 - part) * scatter + part * (level / width) * identity) / count


def ledoit_wolf(sums: Moments) -> Array:
    """Return the shrinkage () in [1e-6, 1] that Ledoit and Wolf (2004) estimate from the rows of all groups."""
    xp = array_namespace(scatter=sums.scatter)
    scatter, count = xp.sum(sums.scatter, axis=0), xp.sum(sums.counts)
    total = xp.linalg.trace(scatter)
    unit = xp.where(total > 0, total, xp.ones_like(total))
    with quietly(scatter):
        squares = xp.sum((scatter / unit) ** 2)
        error, distance = sums.fourth / unit / unit - squares / count, squares - 1.0 / scatter.shape[0]
        part = error / xp.where(distance > 0, distance, xp.ones_like(distance))
    least, one = xp.full_like(part, _LEAST_SHRINKAGE), xp.ones_like(part)
    part = xp.where(part > _LEAST_SHRINKAGE, part, least)
    return xp.where(part < 1, part, one)


def _moved(sums: Moments, offset: Array) -> Moments:
    """Return the sums of rows about the means plus an offset (K, d)."""
    xp = array_namespace(means=sums.means)
    counts, means, scatter, cubes, fourth = sums
    if cubes is not None:
        squares = xp.sum(offset * offset, axis=-1)
        pushed = (scatter @ offset[..., None])[..., 0]
        trace = xp.linalg.trace(scatter)
        terms = 4.0 * offset * (pushed - cubes)
        fourth = fourth + xp.sum(xp.sum(terms, axis=-1) + (counts * squares + 2.0 * trace) * squares)
        cubes = cubes - 2.0 * pushed - (trace + counts * squares)[:, None] * offset
    weighted = counts[:, None] * offset
    if scatter.shape[0] == counts.shape[0]:
        scatter = scatter + weighted[:, :, None] * offset[:, None, :]
    else:
        scatter = scatter + (xp.matrix_transpose(weighted) @ offset)[None, ...]
    return Moments(counts, means + offset, scatter, cubes, fourth)


def _scatters(apart: Array, groups: Array, counts: Array) -> Array:
    xp = array_namespace(apart=apart)
    if counts.shape[0] == 1:
        return (xp.matrix_transpose(apart) @ apart)[None, ...]
    ordered, matrices, end = xp.take(apart, xp.argsort(groups), axis=0), [], 0
    for count in to_host(counts).tolist():
        start, end = end, end + math.floor(count)
        matrices.append(xp.matrix_transpose(ordered[start:end, :]) @ ordered[start:end, :])
    return xp.stack(matrices)
