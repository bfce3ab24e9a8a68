"""Clustered conformal prediction: classes with similar scores share a threshold."""

from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, device
from conformal_core._convert import as_floating, as_labels
from conformal_core._rank import Alpha
from conformal_core._state import State, read_floats, read_thresholds
from conformal_core.checks import check_count, check_interval
from conformal_core.predictors._rows import as_row_scores
from conformal_core.predictors.mondrian import ThresholdPerClass
from conformal_core.quantile import conformal_quantile, grouped_quantiles, sorted_by_group

Array = Any

_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
_NULL = -1


class ClusteredClassifier(ThresholdPerClass):
    """Prediction sets with nearly class-conditional coverage for many classes and few calibration rows.

    A fraction of the calibration rows is used to describe each class by quantiles of its scores and to cluster the
    classes; the other rows give each cluster its threshold. Classes with fewer than 1/min(α, 1 − α) − 1 rows in the
    first part are not clustered: they form group −1, with the threshold of all rows.

    Parameters
    ----------
    score
        Nonconformity score, for example ``LAC()``.
    alpha, confidence
        Miscoverage in (0, 1), or its complement 1 − alpha.
    clusters
        Number of clusters. If None, as many as leave about 10/α rows for each, and at most half of the classes.
    share
        Fraction of the calibration rows used for clustering, in (0, 1).
    seed
        Seed of the division of the rows and of the clustering.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    Guarantee: 1 − α ≤ P(y ∈ C | cluster of y) for every cluster but group −1, and close to it within each class as far
    as the classes of a cluster have the same distribution of scores. Group −1 has no guarantee of its own: if rare
    classes are harder than the others, their coverage is lower (.25 for a target of .9 in one simulation). Use
    :class:`MondrianClassifier` if these classes must be covered too: their threshold is then +∞.
    Ding, Angelopoulos, Bates, Jordan and Tibshirani, *Class-conditional conformal prediction with many classes* (2023),
    whose null cluster is group −1. Calibration costs O(N log N), on the host.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import LAC
    >>> rng = np.random.default_rng(0)
    >>> probs = rng.dirichlet(np.ones(4), size=400)
    >>> labels = np.asarray([rng.choice(4, p=row) for row in probs])
    >>> predictor = ClusteredClassifier(LAC(), alpha=0.1, clusters=2)
    >>> predictor.calibrate(probs, labels)
    >>> predictor.predict(probs).shape
    (400, 4)
    """

    _kind = "ClusteredClassifier"

    def __init__(
        self,
        score: Any,
        *,
        alpha: Alpha | None = None,
        confidence: Alpha | None = None,
        clusters: int | None = None,
        share: float = 0.3,
        seed: int = 0,
    ) -> None:
        super().__init__(score, alpha=alpha, confidence=confidence)
        self._given_clusters = None if clusters is None else check_count("clusters", clusters)
        self._share = check_interval("share", share, "(0, 1)")
        self._seed = check_count("seed", seed, least=0)
        self._clusters: np.ndarray[Any, np.dtype[np.int64]] | None = None

    @property
    def clusters(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Cluster of each class, (K,); −1 for classes too rare to be clustered. ValueError before calibration."""
        if self._clusters is None:
            raise ValueError(f"{self._kind} must be calibrated before its clusters are known")
        return self._clusters

    def calibrate(self, probs: Array, labels: Array, *, check: bool | None = None) -> None:
        """Replace the calibration rows by these: probs (N, K), labels (N,)."""
        probs = as_floating("probs", probs)
        scores = as_row_scores("labels", self.score(probs, labels, check=check))
        xp = array_namespace(probs=probs)
        own = np.asarray([float(s) for s in xp.reshape(scores, (-1,))])
        groups = xp.reshape(as_labels(labels, probs, check=check), (-1,))
        ids = np.asarray([int(y) for y in groups], dtype=np.int64)
        classes = probs.shape[-1]
        rng = np.random.default_rng(self._seed)
        first = rng.permutation(len(own)) < self._share * len(own)
        self._clusters = self._cluster(own[first], ids[first], classes, rng)
        count = int(self._clusters.max()) + 1
        groups = self._clusters[ids[~first]]
        everyone = conformal_quantile(own[~first], alpha=self._alpha)
        known = groups != _NULL
        ordered, starts = sorted_by_group(own[~first][known], groups[known], count)
        thresholds = np.append(grouped_quantiles(ordered, starts, self._alpha), everyone)
        self._qhat = xp.asarray(thresholds[self._clusters], dtype=probs.dtype, device=device(probs))

    def _learned(self) -> State:
        return {"qhat": self._qhat, "clusters": self._clusters}

    def _restore(self, state: State) -> None:
        qhat = read_thresholds(state, "qhat")
        clusters = None if qhat is None else read_floats(state, "clusters", length=len(qhat), least=_NULL)
        self._qhat, self._clusters = qhat, None if clusters is None else clusters.astype(np.int64)

    def _cluster(
        self, scores: np.ndarray[Any, Any], ids: np.ndarray[Any, Any], classes: int, rng: np.random.Generator
    ) -> np.ndarray[Any, np.dtype[np.int64]]:
        counts = np.bincount(ids, minlength=classes)
        enough = np.flatnonzero(counts >= float(1 / min(self._alpha, 1 - self._alpha)) - 1)
        clusters = np.full(classes, _NULL, dtype=np.int64)
        if len(enough) < 2:
            return clusters
        wanted = self._given_clusters or max(1, min(len(enough) // 2, int(len(scores) * float(self._alpha) / 10)))
        embedding = np.stack([np.quantile(scores[ids == label], _LEVELS) for label in enough])
        clusters[enough] = _kmeans(embedding, np.sqrt(counts[enough]), min(wanted, len(enough)), rng)
        return clusters


def _kmeans(
    points: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], k: int, rng: np.random.Generator, rounds: int = 100
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Weighted k-means, seeded by k-means++; returns cluster numbers without a gap."""
    centres = points[[rng.choice(len(points), p=weights / weights.sum())]]
    while len(centres) < k:
        far = weights * ((points[:, None] - centres) ** 2).sum(-1).min(1)
        if far.sum() == 0:
            break
        centres = np.vstack([centres, points[rng.choice(len(points), p=far / far.sum())]])
    nearest = np.zeros(len(points), dtype=np.int64)
    for _ in range(rounds):
        before, nearest = nearest, ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
        if np.array_equal(before, nearest) and _:
            break
        for c in np.unique(nearest):
            centres[c] = np.average(points[nearest == c], axis=0, weights=weights[nearest == c])
    return np.unique(nearest, return_inverse=True)[1].reshape(-1)
