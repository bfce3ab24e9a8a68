"""Memory of all scores."""

import numpy as np
from sortedcontainers import SortedList

from conformal_core._state import State, read_floats
from conformal_core.checks import check_finite_number
from conformal_core.memory._sorted import SortedMemory


class History(SortedMemory):
    """All past scores, sorted.

    ``add`` and ``quantile`` cost O(log n); a million scores take about 40 MB.

    Notes
    -----
    With a constant level the threshold is that of split conformal prediction on the whole past: on an exchangeable
    stream every prediction set covers with probability at least 1 − α.

    Examples
    --------
    >>> from fractions import Fraction
    >>> memory = History()
    >>> for score in (0.3, 0.1, 0.2):
    ...     memory.add(score)
    >>> memory.quantile(Fraction(1, 4))
    0.3
    """

    _kind = "History"

    def add(self, score: float) -> None:
        """Add a score."""
        check_finite_number("score", score)
        self._sorted.add(score)

    def merge(self, *others: "History") -> None:
        """Add the scores of other memories, such as those of processes with disjoint parts of the data."""
        for other in others:
            if not isinstance(other, History):
                raise TypeError(f"others must be of kind History, got {type(other).__name__}")
            if other is self:
                raise ValueError("others must be other memories, got this one: its scores would count twice")
        for other in others:
            self._sorted.update(other._sorted)

    def _learned(self) -> State:
        return {"scores": np.asarray(self._sorted, dtype=np.float64)}

    def _restore(self, state: State) -> None:
        self._sorted = SortedList(read_floats(state, "scores").tolist())
