"""Sliding window of scores."""

from collections import deque

import numpy as np
from sortedcontainers import SortedList

from conformal_core._state import State, read_floats
from conformal_core.checks import check_count, check_finite_number
from conformal_core.memory._sorted import SortedMemory


class Window(SortedMemory):
    """The last ``size`` scores, sorted, for data that drift.

    ``add`` and ``quantile`` cost O(log size).

    Parameters
    ----------
    size
        Number of scores, at least 1.

    Raises
    ------
    TypeError, ValueError
        If ``size`` is not an integer of at least 1.

    Examples
    --------
    >>> from fractions import Fraction
    >>> memory = Window(3)
    >>> for score in (0.9, 0.1, 0.2, 0.3):
    ...     memory.add(score)
    >>> memory.quantile(Fraction(1, 4))
    0.3
    """

    _kind, _saved = "Window", ("size",)

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = check_count("size", size)
        self._order: deque[float] = deque()

    def add(self, score: float) -> None:
        """Add a score, and remove the oldest if the window is full."""
        check_finite_number("score", score)
        if len(self._order) == self._size:
            self._sorted.remove(self._order.popleft())
        self._order.append(score)
        self._sorted.add(score)

    def _learned(self) -> State:
        return {"scores": np.asarray(self._order, dtype=np.float64)}

    def _restore(self, state: State) -> None:
        scores = read_floats(state, "scores")
        if len(scores) > self._size:
            raise ValueError(f"state of Window must hold at most {self._size} scores, got {len(scores)}")
        self._order = deque(scores.tolist())
        self._sorted = SortedList(self._order)
