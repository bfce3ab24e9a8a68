"""Windows of many streams at once."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]


class Windows:
    """The last ``size`` scores of each of S streams, and any order statistic of each.

    Each stream has a *band* of at most ``width`` sorted scores around its last rank: a window is sorted again only if
    the next rank lies outside.
    """

    def __init__(self, streams: int, size: int, width: int) -> None:
        self._size, self._width = size, width
        self.ring: Floats = np.full((size, streams), np.inf)  # +∞ where there is no score yet
        self.places, self.counts, self._below, self._lengths = np.zeros((4, streams), dtype=np.int64)
        self._bands: Floats = np.full((streams, width), np.inf)  # sorted, then +∞
        # Scores in [low, high] belong to the band: none if it is empty, all beyond it where it reaches an end.
        self._low, self._high = np.full(streams, np.inf), np.full(streams, -np.inf)

    def add(self, scores: Floats, streams: Integers) -> None:
        """Add a finite score (n,) to each of different streams (n,), and drop their oldest if the window is full."""
        places, ring = self.places.take(streams), self.ring.reshape(-1)
        flat = places * len(self.counts) + streams
        oldest = ring.take(flat)
        ring[flat] = scores
        places += 1
        places[places == self._size] = 0
        self.places[streams] = places
        self.counts[streams] = np.minimum(self.counts.take(streams) + 1, self._size)
        low, high = self._low.take(streams), self._high.take(streams)
        self._below[streams] += (scores < low).astype(np.int64) - (oldest < low)
        new = np.where((scores >= low) & (scores <= high), scores, np.inf)
        old = np.where((oldest >= low) & (oldest <= high), oldest, np.inf)
        changed = np.flatnonzero((new < np.inf) | (old < np.inf))
        if len(changed):
            self._replace(streams[changed], old[changed], new[changed])

    def quantile(self, numerators: Integers, denominator: int) -> Floats:
        """Threshold (S,) of each stream at its miscoverage numerator/denominator; see `Memory.quantile`."""
        n = self.counts
        ranks = n + 1 - (n + 1) * numerators // denominator
        places = ranks - 1 - self._below
        outside = (ranks >= 1) & (ranks <= n) & ((places < 0) | (places >= self._lengths))
        if outside.any():
            self._centre(np.flatnonzero(outside), ranks[outside])
            places = ranks - 1 - self._below
        flat = np.arange(len(n)) * self._width + np.clip(places, 0, self._width - 1)
        return np.where(ranks > n, np.inf, np.where(ranks < 1, -np.inf, self._bands.reshape(-1).take(flat)))

    def _replace(self, streams: Integers, old: Floats, new: Floats) -> None:
        """Replace a score in the bands of some streams; +∞ stands for none. A full band loses its largest score."""
        rows = self._bands[streams]
        lengths = self._lengths[streams] + (new < np.inf) - (old < np.inf)
        shifted = np.concatenate([rows[:, 1:], np.full((len(rows), 1), np.inf)], axis=1)
        rows = np.where(rows < old[:, None], rows, shifted)
        shifted = np.minimum(rows, new[:, None])
        np.maximum(shifted[:, 1:], rows[:, :-1], out=shifted[:, 1:])
        highest = (self._high[streams] == np.inf) & (lengths <= self._width)
        self._store(streams, shifted, np.minimum(lengths, self._width), self._low[streams] == -np.inf, highest)

    def _centre(self, streams: Integers, ranks: Integers) -> None:
        windows = np.sort(self.ring[:, streams].T, axis=1)
        n, new = self.counts[streams], min(self._size, self._width // 2)
        below = np.clip(ranks - 1 - new // 2, 0, np.maximum(n - new, 0))
        rows = np.full((len(streams), self._width), np.inf)
        rows[:, :new] = np.take_along_axis(windows, below[:, None] + np.arange(new), 1)
        self._below[streams], lengths = below, np.minimum(n, new)
        self._store(streams, rows, lengths, below == 0, below + lengths == n)

    def _store(self, streams: Integers, rows: Floats, lengths: Integers, lowest: Flags, highest: Flags) -> None:
        self._bands[streams], self._lengths[streams] = rows, lengths
        last = rows[np.arange(len(rows)), lengths - 1]
        ends = [np.where(lowest, -np.inf, rows[:, 0]), np.where(highest, np.inf, last)]
        self._low[streams], self._high[streams] = np.where(lengths, ends, [[np.inf], [-np.inf]])
