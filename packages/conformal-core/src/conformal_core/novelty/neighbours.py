"""Distance to the k-th nearest training feature."""

from typing import Any

from conformal_core._precision import quietly
from conformal_core._state import State
from conformal_core.checks import check_count
from conformal_core.novelty.base import FeatureScore, slices, squared_distances
from conformal_core.quantile import kth_smallest

Array = Any

_TABLE = 1 << 24  # distances at a time


class NearestNeighbours(FeatureScore):
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

    _kind, _saved = "NearestNeighbours", ("k",)

    def __init__(self, *, k: int = 10) -> None:
        self._k = check_count("k", k)
        self._rows: Array | None = None

    @property
    def _sample(self) -> Array | None:
        return self._rows

    def _learn(self, rows: Array, groups: Array, xp: Any) -> None:
        self._rows = rows if self._rows is None else xp.concat([self._rows, rows])

    def _score(self, features: Array, xp: Any) -> Array:
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

    def _learned(self) -> State:
        return {"rows": self._rows}

    def _restore(self, state: State) -> None:
        self._rows = state["rows"]
