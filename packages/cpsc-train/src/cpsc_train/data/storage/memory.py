"""Decoded samples in memory, up to a number of bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray


class MemoryCache:
    """Arrays by key. Those that do not fit are made again at each call.

    A copy in another process starts empty.

    `limit`: largest number of bytes of all arrays.

    Examples
    --------
    >>> import numpy as np
    >>> cache = MemoryCache(100)
    >>> cache.get("a", lambda: np.zeros(2)) is cache.get("a", lambda: np.ones(2))
    True
    """

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._arrays: dict[Hashable, NDArray[Any]] = {}

    def __reduce__(self) -> tuple[type[MemoryCache], tuple[int]]:
        """Return what an empty copy is made of."""
        return MemoryCache, (self._limit,)

    def get(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the array of a key, which `make` returns if there is none. It must not be modified."""
        if key in self._arrays:
            return self._arrays[key]
        array = make()
        if array.nbytes <= self._left:
            self._arrays[key] = array
            self._left -= array.nbytes
        return array
