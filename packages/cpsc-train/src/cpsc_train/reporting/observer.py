"""Interface for progress events of a run; the base class ignores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any


class Observer:
    """Base of observers, which receive the events of a run; every method may be overridden."""

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        """Called before training; a resumed run has completed `done` of the `epochs`."""

    def dropped(self, rows: Sequence[str]) -> None:
        """Called before `start` with the `rows` of the data set's lists that are left out, if there are any."""

    def redistributed(self, before: int, now: int) -> None:
        """Called before `start` if a run of `before` processes is resumed by `now`, another number."""

    def step(self) -> None:
        """Called after each optimizer step."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Called after each epoch; `record` is its line in ``metrics.jsonl``."""

    def finish(self, results: dict[str, Any]) -> None:
        """Called after evaluation; `results` is the content of ``results.json``."""

    def close(self) -> None:
        """Called when the run ends, also by an error; closes open resources."""


class Observers(Observer):
    """Observer that forwards events to several others, in their order."""

    def __init__(self, others: Sequence[Observer]) -> None:
        for event in ("start", "dropped", "redistributed", "step", "epoch", "finish", "close"):
            setattr(self, event, partial(_forward, [getattr(other, event) for other in others]))


def _forward(calls: Sequence[Callable[..., None]], *arguments: Any, **named: Any) -> None:
    for call in calls:
        call(*arguments, **named)
