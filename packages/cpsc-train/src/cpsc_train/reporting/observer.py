"""Interface for progress events of a run; the base class ignores them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Observer:
    """Receives the events of a run; every method may be overridden."""

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        """Training is about to begin; `done` of the `epochs` are behind a run that goes on."""

    def dropped(self, rows: Sequence[str]) -> None:
        """Hear of `rows` of the data set's own lists that are no sample; before `start`, where there are any."""

    def step(self) -> None:
        """One step of the optimizer is done."""

    def epoch(self, record: dict[str, Any]) -> None:
        """One epoch is done; `record` is its line in ``metrics.jsonl``."""

    def finish(self, results: dict[str, Any]) -> None:
        """Training and evaluation are done; `results` is what ``results.json`` holds."""

    def close(self) -> None:
        """Let go of what is open: the run is over, however it ended."""


class Observers(Observer):
    """Tells several others.

    Parameters
    ----------
    others
        In the order in which they are told.
    """

    def __init__(self, others: Sequence[Observer]) -> None:
        self._others = tuple(others)

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        """Tell the others."""
        for other in self._others:
            other.start(description, epochs=epochs, path=path, done=done)

    def dropped(self, rows: Sequence[str]) -> None:
        """Tell the others."""
        for other in self._others:
            other.dropped(rows)

    def step(self) -> None:
        """Tell the others."""
        for other in self._others:
            other.step()

    def epoch(self, record: dict[str, Any]) -> None:
        """Tell the others."""
        for other in self._others:
            other.epoch(record)

    def finish(self, results: dict[str, Any]) -> None:
        """Tell the others."""
        for other in self._others:
            other.finish(results)

    def close(self) -> None:
        """Tell the others."""
        for other in self._others:
            other.close()
