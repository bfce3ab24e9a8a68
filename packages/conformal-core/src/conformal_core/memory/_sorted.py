"""Base of the memories that keep a sorted list."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from sortedcontainers import SortedList

from conformal_core._arrays import array_namespace, device
from conformal_core._convert import as_floating
from conformal_core._precision import below
from conformal_core._rank import rank
from conformal_core.memory.base import StreamMemory, finite_floats
from conformal_core.sets import smoothed

Array = Any


class SortedMemory(StreamMemory):
    """Scores in ascending order: insertion, removal and any order statistic in O(log n)."""

    def __init__(self) -> None:
        self._sorted: SortedList = SortedList()

    def __len__(self) -> int:
        return len(self._sorted)

    def quantile(self, alpha: Fraction, /) -> float:
        """Threshold at miscoverage ``alpha``; +∞ if there are too few scores for it, −∞ for ``alpha`` ≥ 1."""
        n = len(self._sorted)
        k = rank(n, alpha)
        if 1 <= k <= n:
            return self._sorted[k - 1]  # type: ignore[no-any-return]  # the list is untyped
        return math.inf if k > n else -math.inf

    def p_values(self, scores: Array, u: Array | float | None = None) -> Array:
        """p-value of every score against the memory, O(log n) each; see :func:`conformal_core.p_values`."""
        scores = as_floating("scores", scores)
        xp = array_namespace(scores=scores)
        n, flat = len(self._sorted), finite_floats(scores, check=False)
        at_least = np.asarray([n - self._sorted.bisect_right(s) for s in finite_floats(below(scores), check=False)])
        where = {"dtype": xp.float64, "device": device(scores)}
        shaped = xp.reshape(xp.asarray(at_least, **where), scores.shape)
        total = xp.asarray(float(n + 1), **where)
        if u is None:
            return (shaped + 1) / total
        above = np.asarray([n - self._sorted.bisect_right(s) for s in flat], dtype=np.float64)
        return smoothed(xp.reshape(xp.asarray(above, **where), scores.shape), shaped, u, total, check=None)
