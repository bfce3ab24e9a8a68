"""Memories that keep a sorted list of scores: all of them, the last ones, or a uniform sample."""

import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sortedcontainers import SortedList

from conformal_core._convert import filled
from conformal_core._state import State, read_count, read_floats, refuse_if
from conformal_core.checks import check_count, check_finite_number, check_others
from conformal_core.memory.base import StreamMemory

_FEW = 16  # changes
Array = Any
_MANY = 32  # values for which a search in a numpy array is faster than one in a list each


class SortedCopy:
    """Sorted scores as an array, and the scores that were added to and removed from the list since.

    They are merged into the array when there are about √n of them, so a change costs O(√n) on average.
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


class SortedMemory(StreamMemory):
    """Scores in ascending order: insertion, removal and any order statistic in O(log n)."""

    def __init__(self) -> None:
        self._sorted: SortedList = SortedList()
        self._copy: SortedCopy | None = None

    def __len__(self) -> int:
        return len(self._sorted)

    def quantile(self, alpha: Fraction, /) -> float:
        """Threshold at miscoverage ``alpha``; +∞ if there are too few scores for it, −∞ for ``alpha`` ≥ 1."""
        return self.quantile_at(alpha.numerator, alpha.denominator)

    def quantile_at(self, numerator: int, denominator: int) -> float:
        """Threshold at the miscoverage numerator/denominator, which need not be reduced."""
        n = len(self._sorted)
        k = n + 1 - (n + 1) * numerator // denominator  # see `rank`
        if 1 <= k <= n:
            return self._sorted[k - 1 - n]  # type: ignore[no-any-return]  # the list is untyped, and fast at its end
        return math.inf if k > n else -math.inf

    def counts(self, score: float) -> tuple[int, int]:
        """Return the numbers of scores above ``score`` and equal to it."""
        end = self._sorted.bisect_right(score)
        return len(self._sorted) - end, end - self._sorted.bisect_left(score)

    def p_values(self, scores: Array, /, *, u: Array | float | None = None) -> Array:
        """p-value of every score against the memory; see :func:`conformal_core.p_values`."""
        if u is not None or type(scores) is not np.ndarray or scores.dtype.char != "d" or 1 < scores.size < _MANY:
            return super().p_values(scores, u=u)
        n = len(self._sorted)
        if scores.size == 1:
            above = self._sorted.bisect_right(math.nextafter(scores.item(), -math.inf))
            return filled(scores, (n - above + 1.0) / (n + 1.0))[()]
        at_least = self._as_array().count(scores.reshape(-1), "left").reshape(scores.shape)
        return (at_least + 1.0) / (n + 1.0)

    def _insert(self, score: float) -> None:
        self._sorted.add(score)
        if self._copy is not None:
            self._copy.change(score, added=True)

    def _remove(self, score: float) -> None:
        self._sorted.remove(score)
        if self._copy is not None:
            self._copy.change(score, added=False)

    def _weights_above(self) -> tuple[Callable[[NDArray[np.float64]], Any], float, float]:
        n, place = len(self._sorted), self._sorted.bisect_right

        def above(values: NDArray[np.float64]) -> Any:
            many = values.size >= _MANY
            return self._as_array().count(values, "right") if many else [n - place(value) for value in values.tolist()]

        return above, n, 1.0

    def _as_array(self) -> SortedCopy:
        if self._copy is None:
            self._copy = SortedCopy(self._sorted)
        return self._copy


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
        self._insert(score)

    def merge(self, *others: "History") -> None:
        """Add the scores of other memories, such as those of processes with disjoint parts of the data."""
        check_others(self, others)
        for other in others:
            self._sorted.update(other._sorted)
            self._copy = None

    def _learned(self) -> State:
        return {"scores": np.asarray(self._sorted, dtype=np.float64)}

    def _restore(self, state: State) -> None:
        self._sorted, self._copy = SortedList(read_floats(state, "scores").tolist()), None


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
            self._remove(self._order.popleft())
        self._order.append(score)
        self._insert(score)

    def _learned(self) -> State:
        return {"scores": np.asarray(self._order, dtype=np.float64)}

    def _restore(self, state: State) -> None:
        scores = read_floats(state, "scores")
        refuse_if(len(scores) > self._size, state, f"at most {self._size} scores", len(scores))
        self._order = deque(scores.tolist())
        self._sorted, self._copy = SortedList(self._order), None


class Reservoir(SortedMemory):
    """A uniform sample of bounded size of all scores.

    Every score of the stream is in the sample with the same probability (Vitter, *Random sampling with a reservoir*,
    1985, algorithm R): with a constant level, sets on an exchangeable stream cover with probability at least 1 − α.
    ``add`` and ``quantile`` cost O(log size).

    Parameters
    ----------
    size
        Number of scores, at least 1.
    seed
        Seed of the choice of the score to replace.

    Raises
    ------
    TypeError, ValueError
        If ``size`` is not an integer of at least 1, or ``seed`` not one of at least 0.

    Examples
    --------
    >>> memory = Reservoir(2, seed=1)
    >>> for score in (0.1, 0.2, 0.3, 0.4):
    ...     memory.add(score)
    >>> len(memory)
    2
    """

    _kind, _saved = "Reservoir", ("size", "seed")

    def __init__(self, size: int, *, seed: int = 0) -> None:
        super().__init__()
        self._size = check_count("size", size)
        self._seed = check_count("seed", seed, least=0)
        self._places: list[float] = []
        self._seen = 0

    def add(self, score: float) -> None:
        """Add a score, or skip it, at random; once full, it replaces a random score."""
        check_finite_number("score", score)
        self._seen += 1
        if len(self._places) < self._size:
            self._places.append(score)
            self._insert(score)
            return
        place = _hash(self._seed, self._seen) % self._seen
        if place < self._size:
            self._remove(self._places[place])
            self._places[place] = score
            self._insert(score)

    def _learned(self) -> State:
        return {"seen": self._seen, "scores": np.asarray(self._places, dtype=np.float64)}

    def _restore(self, state: State) -> None:
        seen = read_count(state, "seen")
        self._places = read_floats(state, "scores", length=min(seen, self._size)).tolist()
        self._sorted, self._copy = SortedList(self._places), None
        self._seen = seen


def _hash(seed: int, position: int) -> int:
    """64 well-mixed bits of two numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + position * 0xD1342543DE82EF95 + 0x632BE59BD9B4E019) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)
