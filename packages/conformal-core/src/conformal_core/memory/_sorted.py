"""Base of the memories that keep a sorted list."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sortedcontainers import SortedList

from conformal_core._rank import rank
from conformal_core.memory.base import StreamMemory


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

    def _weights_above(self) -> tuple[Callable[[NDArray[np.float64]], Any], float, float]:
        n, place = len(self._sorted), self._sorted.bisect_right
        return lambda values: [n - place(value) for value in values.tolist()], n, 1.0
