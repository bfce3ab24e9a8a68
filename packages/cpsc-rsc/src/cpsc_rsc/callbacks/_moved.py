"""Batches that are moved to a device as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Moved:
    """Iterable of batches, each passed through a function; may be iterated as often as the batches themselves."""

    def __init__(self, batches: Iterable[Any], move: Callable[[Any], Any]) -> None:
        self._batches, self._move = batches, move

    def __iter__(self) -> Iterator[Any]:
        return map(self._move, self._batches)
