"""Uniform sample of all scores."""

import numpy as np
from sortedcontainers import SortedList

from conformal_core._state import State, read_count, read_floats
from conformal_core.checks import check_count, check_finite_number
from conformal_core.memory._sorted import SortedMemory


class Reservoir(SortedMemory):
    """A uniform sample of bounded size of all scores.

    Every score of the stream is in the sample with the same probability (Vitter, *Random sampling with a reservoir*,
    1985, algorithm R), independent of the scores: with a constant level, sets on an exchangeable stream cover with
    probability at least 1 − α. ``add`` and ``quantile`` cost O(log size).

    Parameters
    ----------
    size
        Number of scores, at least 1.
    seed
        Seed of the choice of the score to replace, which depends only on the seed and the position in the stream.

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
            self._sorted.add(score)
            return
        place = _hash(self._seed, self._seen) % self._seen
        if place < self._size:
            self._sorted.remove(self._places[place])
            self._places[place] = score
            self._sorted.add(score)

    def _learned(self) -> State:
        return {"seen": self._seen, "scores": np.asarray(self._places, dtype=np.float64)}

    def _restore(self, state: State) -> None:
        seen = read_count(state, "seen")
        self._places = read_floats(state, "scores", length=min(seen, self._size)).tolist()
        self._sorted = SortedList(self._places)
        self._seen = seen


def _hash(seed: int, position: int) -> int:
    """64 well-mixed bits of two numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + position * 0xD1342543DE82EF95 + 0x632BE59BD9B4E019) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)
