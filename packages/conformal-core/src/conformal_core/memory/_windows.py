"""Windows of many streams at once."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Windows:
    """The last ``size`` scores of each of S streams, and any order statistic of each.

    Each stream has a *band*: the sorted scores around the rank that was last asked for. A score that enters or leaves
    the window outside the band only changes the number of scores below it; in the band, the band is sorted again. If a
    rank lies outside the band, the whole window of that stream is sorted. The band changes the time, never a result.

    Parameters
    ----------
    streams, size
        Number of streams, and of scores of each, at least 1.
    width
        Capacity of a band; a new one is half full.
    """

    def __init__(self, streams: int, size: int, width: int) -> None:
        self._size, self._width = size, width
        self._ring: Floats = np.full((size, streams), np.inf)  # +∞ where there is no score yet
        self._next, self.counts = (np.zeros(streams, dtype=np.int64) for _ in range(2))
        self._bands: Floats = np.full((streams, width), np.inf)  # sorted, then +∞
        self._lengths, self._below = (np.zeros(streams, dtype=np.int64) for _ in range(2))
        # Scores in [low, high] belong to the band; no score does where it is empty, and low is −∞ or high +∞ where it
        # reaches an end of the window.
        self._low, self._high = np.full(streams, np.inf), np.full(streams, -np.inf)

    def add(self, scores: Floats, streams: Integers) -> None:
        """Add a finite score (n,) to each of different streams (n,), and drop their oldest if the window is full."""
        rows, ring = self._next.take(streams), self._ring.reshape(-1)
        places = rows * len(self.counts) + streams
        oldest = ring.take(places)
        ring[places] = scores
        rows += 1
        rows[rows == self._size] = 0
        self._next[streams] = rows
        self.counts[streams] = np.minimum(self.counts.take(streams) + 1, self._size)
        low, high = self._low.take(streams), self._high.take(streams)
        self._below[streams] += (scores < low).astype(np.int64) - (oldest < low)
        enters = (scores >= low) & (scores <= high)
        leaves = (oldest >= low) & (oldest <= high) & (oldest < np.inf)
        changed = np.flatnonzero(enters | leaves)
        if len(changed):
            new, old = (
                np.where(which, value, np.inf)[changed] for which, value in ((enters, scores), (leaves, oldest))
            )
            self._replace(streams[changed], old, new)

    def quantile(self, numerators: Integers, denominator: int) -> Floats:
        """Threshold (S,) of each stream at its miscoverage numerator/denominator; see `Memory.quantile`."""
        n = self.counts
        ranks = n + 1 - (n + 1) * numerators // denominator
        places = ranks - 1 - self._below
        outside = (ranks >= 1) & (ranks <= n) & ((places < 0) | (places >= self._lengths))
        if outside.any():
            self._centre(np.flatnonzero(outside), ranks)
            places = ranks - 1 - self._below
        places = np.arange(len(n)) * self._width + np.clip(places, 0, self._width - 1)
        found = self._bands.reshape(-1).take(places)
        return np.where(ranks > n, np.inf, np.where(ranks < 1, -np.inf, found))

    def state(self) -> tuple[Floats, Integers]:
        """Return the scores (size, S), +∞ for none, and the row of the next score of each stream."""
        return self._ring.copy(), self._next.copy()

    def restore(self, ring: Floats, places: Integers) -> None:
        """Restore the result of `state` in windows without scores; ValueError for another one."""
        counts = (ring < np.inf).sum(axis=0)
        if (ring == -np.inf).any() or ((places != counts) & (counts < self._size)).any():
            raise ValueError("state of Streams must hold finite scores and the place of the next, got others")
        self._ring, self._next, self.counts = ring, places, counts

    def _replace(self, streams: Integers, old: Floats, new: Floats) -> None:
        """Replace a score in the bands of some streams; +∞ stands for none. A full band loses its largest score."""
        rows = self._bands[streams]
        lengths = self._lengths[streams] + (new < np.inf) - (old < np.inf)
        above = np.concatenate([rows[:, 1:], np.full((len(rows), 1), np.inf)], axis=1)
        rows = np.where(rows < old[:, None], rows, above)
        above = np.minimum(rows, new[:, None])
        np.maximum(above[:, 1:], rows[:, :-1], out=above[:, 1:])
        highest = (self._high[streams] == np.inf) & (lengths <= self._width)
        self._store(streams, above, np.minimum(lengths, self._width), self._low[streams] == -np.inf, highest)

    def _centre(self, streams: Integers, ranks: Integers) -> None:
        """Give some streams a new band around their ranks."""
        windows = np.ascontiguousarray(self._ring[:, streams].T)
        windows.sort(axis=1)
        n, new = self.counts[streams], min(self._size, self._width // 2)
        below = np.clip(ranks[streams] - 1 - new // 2, 0, np.maximum(n - new, 0))
        rows = np.full((len(streams), self._width), np.inf)
        rows[:, :new] = np.take_along_axis(windows, below[:, None] + np.arange(new), 1)
        lengths, self._below[streams] = np.minimum(n, new), below
        self._store(streams, rows, lengths, below == 0, below + lengths == n)

    def _store(
        self, streams: Integers, rows: Floats, lengths: Integers, lowest: NDArray[np.bool_], highest: NDArray[np.bool_]
    ) -> None:
        """Set the bands of some streams, and whether they reach the ends of the window."""
        last, empty = rows[np.arange(len(rows)), lengths - 1], lengths == 0
        self._bands[streams], self._lengths[streams] = rows, lengths
        self._low[streams] = np.where(empty, np.inf, np.where(lowest, -np.inf, rows[:, 0]))
        self._high[streams] = np.where(empty, -np.inf, np.where(highest, np.inf, last))
