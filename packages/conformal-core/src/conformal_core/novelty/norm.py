"""The length of a feature vector: too short where a sensor is dead, too long where it is flooded."""

from typing import Any

from conformal_core._arrays import array_namespace
from conformal_core._settings import Settings
from conformal_core._state import State, check_state
from conformal_core.novelty._features import as_features, as_rows, at_least_single, quietly

Array = Any

_LEAST = 1e-12  # variance of the logarithm that single precision can tell from 0


class FeatureNorm(Settings):
    """Squared deviation of log‖h‖ from that of the training rows, in units of their variance.

    A sensor that gives nothing has features near the origin, which a distance to class means may find less strange
    than it is: the origin lies between the classes. Its length does not lie between theirs. Rows of length 0 have no
    logarithm: they teach nothing, and are infinitely new.

    Notes
    -----
    Park, Chai, Yoon and Teoh, *Understanding the feature norm for out-of-distribution detection* (2023), who look at
    short ones alone. Sums run in float64, so that learning in pieces is learning at once: O(N d) for N rows of width
    d, O(d) for each score.

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
        self._width: int | None = None
        self._count: Array | None = None
        self._mean: Array | None = None
        self._scatter: Array | None = None

    def update(self, features: Array, labels: Array | None = None, *, check: bool | None = None) -> None:
        """Learn from further training features (..., d); labels are not looked at.

        Raises
        ------
        TypeError, ValueError
            If they are no features, of another width or library, or not finite.
        """
        features, xp = as_features(features, self._width, self._mean, check=check)
        rows = as_rows(features, xp)
        if rows.shape[0] == 0:
            return
        if self._mean is not None:
            array_namespace(mean=self._mean, features=features)
        norms = xp.linalg.vector_norm(rows, axis=-1)
        some = norms > 0
        logs = xp.log(xp.where(some, norms, xp.ones_like(norms)))
        count = xp.sum(xp.astype(some, xp.float64), axis=0, keepdims=True)
        mean = xp.sum(logs, axis=0, keepdims=True) / _at_least_one(count, xp)
        apart = xp.where(some, (logs - mean) ** 2, xp.zeros_like(logs))
        scatter = xp.sum(apart, axis=0, keepdims=True)
        self._width = int(rows.shape[1])
        if self._count is None or self._mean is None or self._scatter is None:
            self._count, self._mean, self._scatter = count, mean, scatter
            return
        both = self._count + count
        shift, share = mean - self._mean, count / _at_least_one(both, xp)
        self._scatter = self._scatter + scatter + shift**2 * self._count * share
        self._mean = self._mean + share * shift
        self._count = both

    def __call__(self, features: Array, *, check: bool | None = None) -> Array:
        """Return squared deviations (...) of features (..., d), at least in single precision.

        Raises
        ------
        TypeError, ValueError
            As for :meth:`update`; ValueError also before anything was learned.
        """
        features, xp = as_features(features, self._width, self._mean, check=check)
        features = at_least_single(features, xp)
        mean, deviation = (xp.astype(x, features.dtype, copy=False) for x in self.logarithm())
        with quietly(features):
            norms = xp.linalg.vector_norm(features, axis=-1)
            some = norms > 0
            found = ((xp.log(xp.where(some, norms, xp.ones_like(norms))) - mean) / deviation) ** 2
        found = xp.where(some & ~xp.isnan(found), found, xp.full_like(found, xp.inf))
        return xp.reshape(found, features.shape[:-1])

    def logarithm(self) -> tuple[Array, Array]:
        """Return mean and standard deviation of log‖h‖, (1,) in float64; ValueError before anything was learned."""
        if self._count is None or self._mean is None or self._scatter is None:
            raise ValueError(f"{self._kind} must learn from training features before it is asked")
        xp = array_namespace(mean=self._mean)
        return self._mean, xp.sqrt(self._scatter / _at_least_one(self._count, xp) + _LEAST)

    def state_dict(self) -> State:
        """Return width, count, mean and scatter."""
        learned = {"count": self._count, "mean": self._mean, "scatter": self._scatter}
        return {"kind": self._kind, "version": 1, "width": self._width, **learned}

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state; ValueError says what does not fit."""
        check_state(state, self._kind, {"width", "count", "mean", "scatter"})
        self._width = state["width"]
        self._count, self._mean, self._scatter = state["count"], state["mean"], state["scatter"]


def _at_least_one(count: Array, xp: Any) -> Array:
    return xp.where(count > 0, count, xp.ones_like(count))
