"""Memory of bounded size for very many scores, with a bound on the rank error."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import array_namespace, to_host
from conformal_core._convert import as_floating
from conformal_core._state import State, read_count, read_floats, refuse_if
from conformal_core.checks import check_count, check_finite, check_finite_number, check_others
from conformal_core.memory.base import StreamMemory
from conformal_core.quantile import rank

Array = Any


class Sketch(StreamMemory):
    """Summary of all scores in O(size · log(n/size)) memory that keeps the coverage guarantee.

    The threshold is one of the order statistics k to k + ``rank_error``, which adds at most ``rank_error``/n to the
    coverage and ``rank_error``/(n + 1) to a p-value. Sketches of disjoint parts merge in any order.

    Parameters
    ----------
    size
        Scores per buffer, even, at least 2. With the default a sketch of 10⁸ scores takes about 6 MB and its
        ``rank_error`` is below 0.01 % of n.

    Raises
    ------
    TypeError, ValueError
        If ``size`` is not an even integer of at least 2.

    Attributes
    ----------
    rank_error : int
        At most n/(2 · size) · log₂(n/size) for one sketch of all n scores, and 0 while n < 2 · size.

    Notes
    -----
    Of each neighbouring pair of two full buffers the larger score is kept. Munro and Paterson, *Selection and sorting
    with limited storage* (1980); Manku, Rajagopalan and Lindsay, *Approximate medians and other quantiles in one pass
    and with limited memory* (1998). ``extend`` costs O(log size) per score, and the first quantile after it
    O(size · log(n/size)).

    Examples
    --------
    >>> import numpy as np
    >>> from fractions import Fraction
    >>> here, there = Sketch(4), Sketch(4)
    >>> here.extend(np.arange(0.0, 8.0))
    >>> there.extend(np.arange(8.0, 16.0))
    >>> here.merge(there)
    >>> len(here), here.quantile(Fraction(1, 2)), here.rank_error  # the exact threshold is 8.0
    (16, 11.0, 4)
    """

    _kind, _saved = "Sketch", ("size",)

    def __init__(self, size: int = 1 << 16) -> None:
        self._size = check_count("size", size, least=2)
        if self._size % 2:
            raise ValueError(f"size must be even, got {size}")
        self._error = 0
        self._pending = np.empty(self._size)
        self._filled = 0
        self._levels: list[NDArray[np.float64]] = []
        self._known: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return self._filled + self._size * sum(1 << level for level, held in enumerate(self._levels) if len(held))

    @property
    def rank_error(self) -> int:
        """Bound on how far the rank of a threshold lies above the requested rank."""
        return self._error

    def add(self, score: float) -> None:
        """Add the next score of a stream; :class:`History` is faster if a threshold is needed after each."""
        check_finite_number("score", score)
        self._take(np.asarray([score], dtype=np.float64))

    def extend(self, scores: Array, *, check: bool | None = None) -> None:
        """Add scores of any shape, see :meth:`Memory.extend`."""
        scores = as_floating("scores", scores)
        xp = array_namespace(scores=scores)
        check_finite("scores", scores, xp, check=check)
        self._take(to_host(xp.astype(xp.reshape(scores, (-1,)), xp.float64, copy=False)))

    def merge(self, *others: "Sketch") -> None:
        """Add the scores of other sketches, which do not change; ``rank_error`` is the sum of all."""
        check_others(self, others)
        for other in others:
            if other._size != self._size:
                raise ValueError(f"others must have size {self._size}, got {other._size}")
        for other in others:
            self._error += other._error
            for level, held in enumerate(other._levels):
                if len(held):
                    self._carry(held, level)
            self._take(other._pending[: other._filled])

    def quantile(self, alpha: Fraction, /) -> float:
        """Threshold at miscoverage ``alpha``; +∞ if there are too few scores for it, −∞ for ``alpha`` ≥ 1."""
        n = len(self)
        k = rank(n, alpha)
        if not 1 <= k <= n:
            return math.inf if k > n else -math.inf
        values, counts = self._summary()
        return float(values[np.searchsorted(counts, k)])

    def _weights_above(self) -> tuple[Callable[[NDArray[np.float64]], Any], float, float]:
        values, counts = self._summary()
        smaller, n = np.concatenate([[0], counts]), len(self)
        return lambda asked: n - smaller[np.searchsorted(values, asked, side="right")], n, 1.0

    def _learned(self) -> State:
        levels = [held.copy() for held in self._levels]  # levels[i] holds scores of weight 2ⁱ
        return {"error": self._error, "pending": self._pending[: self._filled].copy(), "levels": levels}

    def _restore(self, state: State) -> None:
        error, pending = read_count(state, "error"), read_floats(state, "pending")
        saved = state["levels"]
        refuse_if(
            not isinstance(saved, (list, tuple)) or len(saved) > 62 or len(pending) >= self._size,
            state,
            f"at most 62 levels, and less than {self._size} pending scores",
        )
        levels = [np.sort(read_floats(state | {"levels": held}, "levels")) for held in saved]
        refuse_if(
            any(len(held) not in (0, self._size) for held in levels), state, f"levels of 0 or {self._size} scores"
        )
        self.reset()
        self._error = error
        self._levels.extend(levels)
        self._take(pending)

    def _take(self, scores: NDArray[np.float64]) -> None:
        self._known = None
        while len(scores):
            part = scores[: self._size - self._filled]
            self._pending[self._filled : self._filled + len(part)] = part
            self._filled, scores = self._filled + len(part), scores[len(part) :]
            if self._filled == self._size:
                self._carry(np.sort(self._pending), 0)
                self._filled = 0

    def _carry(self, full: NDArray[np.float64], level: int) -> None:
        """Add a sorted buffer to its level, like a carry in binary addition."""
        self._known = None
        while level < len(self._levels) and len(self._levels[level]):
            pairs = np.concatenate([self._levels[level], full])
            pairs.sort(kind="stable")  # a stable sort merges two sorted runs in linear time
            self._levels[level] = pairs[:0]
            self._error += 1 << level
            full, level = pairs[1::2].copy(), level + 1
        while level >= len(self._levels):
            self._levels.append(full[:0])
        self._levels[level] = full

    def _summary(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        if self._known is None:
            parts = [self._pending[: self._filled], *self._levels]
            weights = [1, *(1 << level for level in range(len(self._levels)))]
            values = np.concatenate(parts)
            counts = np.repeat(weights, [len(part) for part in parts])
            order = np.argsort(values)
            self._known = values[order], np.cumsum(counts[order])
        return self._known
