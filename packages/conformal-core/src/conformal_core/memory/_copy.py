"""Numpy copy of a sorted list that changes, for searches of many values at once."""

import math
from bisect import insort
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray


class SortedCopy:
    """Sorted scores as an array, and the scores that were added to and removed from the list since.

    They are merged into the array when there are about √n of them, so a change costs O(√n) on average.

    Parameters
    ----------
    scores
        Finite scores in ascending order.

    Examples
    --------
    >>> copy = SortedCopy([0.1, 0.2, 0.3])
    >>> copy.change(0.4, added=True)
    >>> copy.count(np.asarray([0.15, 0.3]), "right")
    array([3, 1])
    """

    def __init__(self, scores: Sequence[float]) -> None:
        self._scores = np.fromiter(scores, dtype=np.float64, count=len(scores))
        self._added: list[float] = []
        self._removed: list[float] = []

    def change(self, score: float, *, added: bool) -> None:
        """Note a score that was added to the list, or removed from it."""
        insort(self._added if added else self._removed, score)
        if len(self._added) + len(self._removed) > max(_FEW, math.isqrt(len(self._scores)) // 2):
            self._merge()

    def count(self, values: NDArray[np.float64], side: Literal["left", "right"]) -> NDArray[np.int64]:
        """Return the number of scores at least as large as each value (side "left"), or larger ("right"), (n,)."""
        order = values.argsort()
        ordered = values[order]  # ordered values are found twice as fast
        counts = len(self._scores) + len(self._added) - len(self._removed) - self._scores.searchsorted(ordered, side)
        if self._added:
            counts -= np.asarray(self._added).searchsorted(ordered, side)
        if self._removed:
            counts += np.asarray(self._removed).searchsorted(ordered, side)
        result = np.empty_like(counts)
        result[order] = counts
        return result

    def _merge(self) -> None:
        added, removed = np.asarray(self._added), np.asarray(self._removed)
        scores = np.insert(self._scores, self._scores.searchsorted(added), added)
        equals_before = np.arange(len(removed)) - removed.searchsorted(removed)
        self._scores = np.delete(scores, scores.searchsorted(removed) + equals_before)
        self._added, self._removed = [], []


_FEW = 16  # changes
