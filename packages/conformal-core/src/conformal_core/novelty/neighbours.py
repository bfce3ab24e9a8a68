"""Distance to the k-th nearest training feature."""

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
    """Squared distance to the k-th nearest training row, each coordinate in units of its standard deviation.

    Parameters
    ----------
    k
        Rank of the neighbour, at least 1.

    Raises
    ------
    TypeError, ValueError
        If ``k`` is not an integer or below 1.

    Notes
    -----
    Sun, Ming, Zhu and Li, *Out-of-distribution detection with deep nearest neighbors* (2022), without
    normalization of lengths. All rows are kept: O(N d) memory, and O(N d) time per score. With fewer than k rows the
    farthest one is used.

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
        """Add training features (..., d); labels are ignored.

        Raises
        ------
        TypeError, ValueError
            If the features have another kind, shape, width or library, or are not finite.
        """
        features, xp = as_features(features, self._width, self._rows, check=check)
        rows = as_rows(features, xp)
        if self._rows is not None:
            array_namespace(rows=self._rows, features=features)
            rows = xp.concat([self._rows, rows])
        if rows.shape[0]:
            self._rows = rows

    def __call__(self, features: Array, *, check: bool | None = None) -> Array:
        """Return squared distances (...) of features (..., d), in single precision or better.

        Raises
        ------
        TypeError, ValueError
            As for :meth:`update`; ValueError also before any update.
        """
        features, xp = as_features(features, self._width, self._rows, check=check)
        if self._rows is None:
            raise ValueError(f"{self._kind} must learn from training features before it is asked")
        features = at_least_single(features, xp)
        centre, std = xp.mean(self._rows, axis=0), xp.std(self._rows, axis=0)
        unit = xp.where(std > 0, std, xp.ones_like(std))
        points = xp.astype((self._rows - centre) / unit, features.dtype, copy=False)
        centre, unit = (xp.astype(x, features.dtype, copy=False) for x in (centre, unit))
        queries = xp.reshape((features - centre) / unit, (-1, features.shape[-1]))
        count, k = points.shape[0], min(self._k, points.shape[0])
        with quietly(features):
            parts = [
                kth_smallest(squared_distances(queries[part, :], points), k, xp)
                for part in slices(queries.shape[0], max(1, _TABLE // count))
            ]
        return xp.reshape(xp.concat(parts), features.shape[:-1])

    def state_dict(self) -> State:
        """Return the rows."""
        return {"kind": self._kind, "version": 1, "k": self._k, "rows": self._rows}

    def load_state_dict(self, state: State) -> None:
        """Restore a saved state; raise ValueError if it does not fit."""
        check_state(state, self._kind, {"rows"}, k=self._k)
        self._rows = state["rows"]

    @property
    def _width(self) -> int | None:
        return None if self._rows is None else int(self._rows.shape[1])
