"""Who is told of a run's progress; this one keeps silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Observer:
    """Receives the events of a run; every method may be overridden."""

    def start(self, description: dict[str, Any], *, epochs: int, path: Path) -> None:
        """Training is about to begin."""

    def step(self) -> None:
        """One step of the optimizer is done."""

    def epoch(self, record: dict[str, Any]) -> None:
        """One epoch is done; `record` is its line in ``metrics.jsonl``."""

    def finish(self, results: dict[str, Any]) -> None:
        """Training and evaluation are done; `results` is what ``results.json`` holds."""
