"""Length of a feature vector: too short if a sensor is dead, too long if it is saturated."""

from typing import Any

from conformal_core._arrays import array_namespace
from conformal_core._precision import quietly
from conformal_core._state import State
from conformal_core.novelty.base import FeatureScore

Array = Any

_LEAST = 1e-12  # smallest variance of the logarithm that single precision resolves


class FeatureNorm(FeatureScore):
    """Squared difference of log‖h‖ from its mean over the training rows, in units of their variance.

    A dead sensor gives features near the origin. The origin lies between the classes, so its distance to the class
    means may be moderate, but its length is not. Rows of length 0 have no logarithm: they are ignored in training, and
    have infinite scores.

    Notes
    -----
    Park, Chai, Yoon and Teoh, *Understanding the feature norm for out-of-distribution detection* (2023), who use
    only short lengths. Sums are in float64, so training in parts equals training at once: O(N d) for N rows of width
    d, O(d) per score.

    Examples
    --------
    >>> import numpy as np
    >>> score = FeatureNorm()
    >>> score.update(np.asarray([[1.0, 0.0], [0.0, 4.0]]))
    >>> score(np.asarray([[0.0, -2.0], [0.125, 0.0], [0.0, 0.0]])).round(6)
    array([ 0., 16., inf])
    """

    _kind = "FeatureNorm"

    def __init__(self) -> None:
        self._known_width: int | None = None
        self._count: Array | None = None
        self._mean: Array | None = None
        self._scatter: Array | None = None

    @property
    def _sample(self) -> Array | None:
        return self._mean

    @property
    def _width(self) -> int | None:
        return self._known_width

    def _learn(self, rows: Array, groups: Array, xp: Any) -> None:
        norms = xp.linalg.vector_norm(rows, axis=-1)
        some = norms > 0
        logs = xp.log(xp.where(some, norms, xp.ones_like(norms)))
        count = xp.sum(xp.astype(some, xp.float64), axis=0, keepdims=True)
        mean = xp.sum(logs, axis=0, keepdims=True) / _at_least_one(count, xp)
        apart = xp.where(some, (logs - mean) ** 2, xp.zeros_like(logs))
        scatter = xp.sum(apart, axis=0, keepdims=True)
        self._known_width = int(rows.shape[1])
        if self._count is None or self._mean is None or self._scatter is None:
            self._count, self._mean, self._scatter = count, mean, scatter
            return
        both = self._count + count
        shift, share = mean - self._mean, count / _at_least_one(both, xp)
        self._scatter = self._scatter + scatter + shift**2 * self._count * share
        self._mean = self._mean + share * shift
        self._count = both

    def _score(self, features: Array, xp: Any) -> Array:
        mean, std = (xp.astype(x, features.dtype, copy=False) for x in self.logarithm())
        with quietly(features):
            norms = xp.linalg.vector_norm(features, axis=-1)
            some = norms > 0
            scores = ((xp.log(xp.where(some, norms, xp.ones_like(norms))) - mean) / std) ** 2
        scores = xp.where(some & ~xp.isnan(scores), scores, xp.full_like(scores, xp.inf))
        return xp.reshape(scores, features.shape[:-1])

    def logarithm(self) -> tuple[Array, Array]:
        """Return mean and standard deviation of log‖h‖, (1,) in float64; raise ValueError before any update."""
        if self._count is None or self._mean is None or self._scatter is None:
            raise ValueError(f"{self._kind} must learn from training features before it is asked")
        xp = array_namespace(mean=self._mean)
        return self._mean, xp.sqrt(self._scatter / _at_least_one(self._count, xp) + _LEAST)

    def _learned(self) -> State:
        return {"width": self._width, "count": self._count, "mean": self._mean, "scatter": self._scatter}

    def _restore(self, state: State) -> None:
        self._known_width = state["width"]
        self._count, self._mean, self._scatter = state["count"], state["mean"], state["scatter"]


def _at_least_one(count: Array, xp: Any) -> Array:
    return xp.where(count > 0, count, xp.ones_like(count))
