"""Conformal prediction with a threshold for each class, or for each cluster of classes."""

import math
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import array_namespace, beside, comparable, device
from conformal_core._convert import as_draws, as_floating, as_labels
from conformal_core._state import State, read_floats, read_thresholds, refuse_if
from conformal_core.checks import check_count, check_interval, check_score
from conformal_core.memory.base import finite_floats
from conformal_core.predictors._base import Change, Predictor, as_row_scores, check_classes, unchanged
from conformal_core.quantile import (
    Alpha,
    grouped_quantiles,
    miscoverage,
    read_alpha,
    sorted_by_group,
    warn,
    warn_too_few,
)
from conformal_core.sets import sorted_p_values, with_top

Array = Any
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
_NULL = -1


class ClassConditionalClassifier(Predictor):
    """Prediction sets with a guarantee within each class: each label has a threshold, from the rows of that class.

    For a guarantee within groups of rows, such as sites or age bands, see :class:`Mondrian`.

    Parameters
    ----------
    score
        Nonconformity score, for example ``LAC()``.
    alpha
        Miscoverage in (0, 1).

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    Guarantee: 1 − α ≤ P(y ∈ C | y) for rows exchangeable within their class. A class with fewer than 1/α − 1
    calibration rows is in every set. Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World* (2005),
    section 4.5. Calibration costs O(N log N).

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import LAC
    >>> probs = np.asarray([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.5, 0.5]])
    >>> predictor = ClassConditionalClassifier(LAC(), alpha=0.4)
    >>> predictor.calibrate(probs, np.asarray([0, 0, 1, 1]))
    >>> predictor.qhat
    array([0.2, 0.6])
    >>> predictor.predict(np.asarray([0.6, 0.4]))
    array([False,  True])
    """

    _kind = "ClassConditionalClassifier"
    _saved: ClassVar[tuple[str, ...]] = ("alpha", "score")

    def __init__(self, score: Any, *, alpha: Alpha | None = None, confidence: Alpha | None = None) -> None:
        check_score(score)
        self._alpha = read_alpha(alpha, confidence, miscoverage)
        self.score = score
        self.alpha: Any = self._alpha if alpha is None else alpha
        self._given_alpha, self._given_confidence = alpha, confidence
        self._clear()

    @property
    def qhat(self) -> Array:
        """Threshold of each class, (K,); +∞, a 0-d array, before calibration."""
        if self._qhat is None:
            warn_too_few(0, self._alpha)
            return np.asarray(math.inf)
        return self._qhat

    def calibrate(self, probs: Array, labels: Array, *, check: bool | None = None) -> None:
        """Replace the calibration rows by these: probs (N, K), labels (N,)."""
        self._calibrate(*self._scored(probs, labels, check, None))

    def predict(self, probs: Array, *, nonempty: bool = False, check: bool | None = None) -> Array:
        """Prediction sets (..., K) of bool for probs (..., K); a class with an infinite threshold is in every set."""
        probs = as_floating("probs", probs, self._qhat)
        scores = self.score(probs, check=check)
        xp, qhat = array_namespace(probs=probs), beside(self.qhat, probs)
        check_classes(probs, qhat.shape[0] if qhat.ndim else None)
        inside = scores <= comparable(qhat, scores)
        return with_top(inside, scores, xp) if nonempty else inside

    def update(self, probs: Array, labels: Array, *, check: bool | None = None) -> None:
        """Add calibration rows: probs (N, K), labels (N,), or one row."""
        self._plan_update(probs, labels, check=check)()

    def p_values(self, probs: Array, *, u: Array | float | None = None, check: bool | None = None) -> Array:
        """p-value of every label against the rows with its threshold, (..., K): it is in the set exactly when p > α."""
        probs = as_floating("probs", probs, self._scores)
        scores = self.score(probs, check=check)
        known, parts = self._pooled, self._parts
        if known is None:
            known, parts = scores.reshape(-1)[:0], [(0, 0)] * scores.shape[-1]
        check_classes(probs, len(parts))
        xp, known = array_namespace(scores=scores), beside(known, scores)
        draws = None if u is None else as_draws(u, tuple(scores.shape), xp.astype(scores, xp.float64), check=check)
        columns = [
            sorted_p_values(known[start:end], scores[..., k], None if draws is None else draws[..., k], check=False)
            for k, (start, end) in enumerate(parts)
        ]
        return xp.stack(columns, axis=-1)

    def _scored(self, probs: Array, labels: Array, check: bool | None, known: int | None) -> tuple[Array, Array, int]:
        probs = as_floating("probs", probs)
        check_classes(probs, known)
        scores = as_row_scores("labels", self.score(probs, labels, check=check))
        xp = array_namespace(probs=probs)
        ids = as_labels(labels, probs, check=check)
        return xp.reshape(scores, (-1,)), xp.reshape(ids, (-1,)), int(probs.shape[-1])

    def _calibrate(self, scores: Array, labels: Array, classes: int) -> None:
        self._hold(scores, labels, classes)
        xp = array_namespace(qhat=self._qhat)
        if empty := int(xp.sum(xp.astype(xp.isinf(self._qhat), xp.int64))):
            warn(
                f"calibration scores of {empty} of {classes} classes are too few for alpha = {float(self._alpha):.6g}, "
                f"fewer than {math.ceil(1 / self._alpha - 1)}: their threshold is +inf"
            )

    def _plan_predict(self, probs: Array, **options: Any) -> tuple[Array, Change]:
        return self.predict(probs, **options), unchanged

    def _plan_update(self, probs: Array, labels: Array, *, check: bool | None = None) -> Change:
        known_classes = None if self._scores is None else len(self._starts) - 1
        scores, labels, classes = self._scored(probs, labels, check, known_classes)
        if self._scores is not None:
            scores, known = beside(scores, self._scores), _labels_of(self._starts, self._scores)
            xp = array_namespace(scores=scores)
            scores, labels = xp.concat([self._scores, scores]), xp.concat([known, beside(labels, known)])
        return partial(self._hold, scores, labels, classes)

    def _clear(self) -> None:
        self._scores: Array | None = None  # sorted within each class, class after class
        self._starts: list[int] = []
        self._pooled: Array | None = None  # sorted within each part
        self._parts: list[tuple[int, int]] = []  # of each class, whose scores set its threshold
        self._qhat: Array | None = None

    def _hold(self, scores: Array, labels: Array, classes: int) -> None:
        self._scores, self._starts = sorted_by_group(scores, labels, classes)
        self._pooled, self._parts = self._pool(self._scores, self._starts)
        self._qhat = grouped_quantiles(self._pooled, self._parts, self._alpha)

    def _pool(self, scores: Array, starts: list[int]) -> tuple[Array, list[tuple[int, int]]]:
        return scores, list(pairwise(starts))

    def _learned(self) -> State:
        return {"scores": self._scores, "starts": np.asarray(self._starts, dtype=np.int64)}

    def _restore(self, state: State) -> None:
        scores = read_thresholds(state, "scores", infinite=False)
        edges = read_floats(state, "starts", least=0.0)
        if scores is None:
            self._clear()
            return
        wrong = len(edges) < 2 or edges[0] != 0 or edges[-1] != scores.shape[0]
        wrong = wrong or (np.diff(edges) < 0).any() or (edges % 1).any()
        refuse_if(wrong, state, "the places where the scores of classes start")
        starts = edges.astype(np.int64).tolist()
        self._hold(scores, _labels_of(starts, scores), len(starts) - 1)


def _labels_of(starts: list[int], scores: Array) -> Array:
    labels = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return array_namespace(scores=scores).asarray(labels, device=device(scores))


class ClusteredClassifier(ClassConditionalClassifier):
    """Prediction sets with nearly class-conditional coverage for many classes and few calibration rows.

    A fraction of the calibration rows is used to describe each class by quantiles of its scores and to cluster the
    classes; the other rows, and those of :meth:`update`, give each cluster its threshold. Classes with fewer than
    1/min(α, 1 − α) − 1 rows in the first part form group −1, with the threshold of all rows, as do all classes before
    calibration.

    Parameters
    ----------
    score
        Nonconformity score, for example ``LAC()``.
    alpha
        Miscoverage in (0, 1).
    clusters
        Number of clusters. If None, as many as leave about 10/α rows for each, and at most half of the classes.
    clustering_fraction
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
    as the classes of a cluster have the same distribution of scores. Rare classes may be covered less often;
    :class:`ClassConditionalClassifier` puts them in every set. Ding, Angelopoulos, Bates, Jordan and Tibshirani,
    *Class-conditional conformal prediction with many classes* (2023). Calibration costs O(N log N).

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
        clustering_fraction: float = 0.3,
        seed: int = 0,
    ) -> None:
        super().__init__(score, alpha=alpha, confidence=confidence)
        self._clusters = None if clusters is None else check_count("clusters", clusters)
        self._clustering_fraction = check_interval("clustering_fraction", clustering_fraction, "(0, 1)")
        self._seed = check_count("seed", seed, least=0)
        self._ids: Integers | None = None

    @property
    def cluster_ids(self) -> Integers:
        """Cluster of each class, (K,); −1 for classes too rare to be clustered. ValueError before calibration."""
        if self._ids is None:
            raise ValueError(f"{self._kind} must be calibrated before its clusters are known")
        return self._ids

    def _calibrate(self, scores: Array, labels: Array, classes: int) -> None:
        own, ids = np.asarray(finite_floats(scores, False)), np.asarray(finite_floats(labels, False), np.int64)
        rng = np.random.default_rng(self._seed)
        first = rng.permutation(len(own)) < self._clustering_fraction * len(own)
        self._ids = self._cluster(own[first], ids[first], classes, rng)
        xp = array_namespace(scores=scores)
        rest = xp.asarray(np.flatnonzero(~first), device=device(scores))
        super()._calibrate(xp.take(scores, rest), xp.take(labels, rest), classes)

    def _pool(self, scores: Array, starts: list[int]) -> tuple[Array, list[tuple[int, int]]]:
        xp, n = array_namespace(scores=scores), starts[-1]
        clusters = np.full(len(starts) - 1, _NULL) if self._ids is None else self._ids
        count = int(clusters.max()) + 1
        groups = np.repeat(np.where(clusters == _NULL, count, clusters), np.diff(starts))
        ordered, edges = sorted_by_group(scores, xp.asarray(groups, device=device(scores)), count + 1)
        parts = [*pairwise(edges[:-1]), (n, 2 * n)]  # the last, at -1, has all rows
        return xp.concat([ordered, xp.sort(scores)]), [parts[cluster] for cluster in clusters.tolist()]

    def _learned(self) -> State:
        return {**super()._learned(), "clusters": self._ids}

    def _restore(self, state: State) -> None:
        before, ids = self._ids, None
        if state["clusters"] is not None:
            ids = read_floats(state, "clusters", least=_NULL).astype(np.int64)
            wrong = ids.size + 1 != np.size(state["starts"]) or ids.max(initial=0) >= ids.size
            refuse_if(wrong, state, "a cluster of each class")
        self._ids = ids
        try:
            super()._restore(state)
        except ValueError:
            self._ids = before
            raise

    def _cluster(self, scores: Floats, ids: Integers, classes: int, rng: np.random.Generator) -> Integers:
        counts = np.bincount(ids, minlength=classes)
        enough = np.flatnonzero(counts >= float(1 / min(self._alpha, 1 - self._alpha)) - 1)
        clusters = np.full(classes, _NULL, dtype=np.int64)
        if len(enough) < 2:
            return clusters
        wanted = self._clusters or max(1, min(len(enough) // 2, int(len(scores) * float(self._alpha) / 10)))
        embedding = np.stack([np.quantile(scores[ids == label], _LEVELS) for label in enough])
        clusters[enough] = _kmeans(embedding, np.sqrt(counts[enough]), min(wanted, len(enough)), rng)
        return clusters


def _kmeans(points: Floats, weights: Floats, k: int, rng: np.random.Generator, rounds: int = 100) -> Integers:
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
        if np.array_equal(before, nearest):
            break
        for c in np.unique(nearest):
            centres[c] = np.average(points[nearest == c], axis=0, weights=weights[nearest == c])
    return np.unique(nearest, return_inverse=True)[1].reshape(-1)
