"""The distance to the k-th nearest training feature."""

from typing import Any

from conformal_core._arrays import array_namespace
from conformal_core._settings import Settings
from conformal_core._state import State, check_state
from conformal_core.checks import check_count
from conformal_core.novelty._features import as_features, as_rows, at_least_single, quietly, slices
from conformal_core.novelty.distance import squared_distances
from conformal_core.quantile import kth_smallest

Array = Any

_TABLE = 1 << 24  # distances at a time


class NearestNeighbours(Settings):
    """Squared distance to the k-th nearest training row, every coordinate in units of its own deviation.

    Parameters
    ----------
    k
        Which neighbour, at least 1.

    Raises
    ------
    TypeError, ValueError
        If ``k`` is not an integer or below 1.

    Notes
    -----
    Sun, Ming, Zhu and Li, *Out-of-distribution detection with deep nearest neighbors* (2022), without the
    normalisation of lengths. All rows are kept: O(N d) of memory, and of time for each score. With fewer than k rows
    the farthest one counts.

    Examples
    --------
    >>> import numpy as np
    >>> score = NearestNeighbours(k=1)
    >>> score.update(np.asarray([[-1.0], [1.0]]))
    >>> score(np.asarray([[1.0], [3.0]]))
    array([0., 4.])
    """

    _kind = "NearestNeighbours"

    def __init__(self, *, k: int = 10) -> None:
        self._k = check_count("k", k)
        self._rows: Array | None = None

    def update(self, features: Array, labels: Array | None = None, *, check: bool | None = None) -> None:
        """Keep further training features (..., d); labels are not looked at.

        Raises
        ------
        TypeError, ValueError
            If they are no features, of another width or library, or not finite.
        """
        features, xp = as_features(features, self._width, self._rows, check=check)
        rows = as_rows(features, xp)
        if self._rows is not None:
            array_namespace(rows=self._rows, features=features)
            rows = xp.concat([self._rows, rows])
        if rows.shape[0]:
            self._rows = rows

    def __call__(self, features: Array, *, check: bool | None = None) -> Array:
        """Return squared distances (...) of features (..., d), at least in single precision.

        Raises
        ------
        TypeError, ValueError
            As for :meth:`update`; ValueError also before anything was learned.
        """
        features, xp = as_features(features, self._width, self._rows, check=check)
        if self._rows is None:
            raise ValueError(f"{self._kind} must learn from training features before it is asked")
        features = at_least_single(features, xp)
        centre, deviation = xp.mean(self._rows, axis=0), xp.std(self._rows, axis=0)
        unit = xp.where(deviation > 0, deviation, xp.ones_like(deviation))
        points = xp.astype((self._rows - centre) / unit, features.dtype, copy=False)
        centre, unit = (xp.astype(x, features.dtype, copy=False) for x in (centre, unit))
        asked = xp.reshape((features - centre) / unit, (-1, features.shape[-1]))
        count, k = points.shape[0], min(self._k, points.shape[0])
        with quietly(features):
            parts = [
                kth_smallest(squared_distances(asked[part, :], points), k, xp)
                for part in slices(asked.shape[0], max(1, _TABLE // count))
            ]
        return xp.reshape(xp.concat(parts), features.shape[:-1])

    def state_dict(self) -> State:
        """Return the rows."""
        return {"kind": self._kind, "version": 1, "k": self._k, "rows": self._rows}

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state; ValueError says what does not fit."""
        check_state(state, self._kind, {"rows"}, k=self._k)
        self._rows = state["rows"]

    @property
    def _width(self) -> int | None:
        return None if self._rows is None else int(self._rows.shape[1])
