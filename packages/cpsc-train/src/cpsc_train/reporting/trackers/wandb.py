"""Tracker for Weights & Biases; WANDB_PROJECT, WANDB_MODE and its other variables set the destination."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpsc_train.errors import needs
from cpsc_train.reporting.observer import Observer
from cpsc_train.reporting.trackers.figures import of_epoch, of_results


class WandB(Observer):
    """Observer that logs to a run with the name of the run folder; a resumed run continues it."""

    def __init__(self) -> None:
        with needs("wandb", extra="wandb"):
            import wandb  # noqa: PLC0415  # an extra
        self._wandb = wandb
        self._run: Any = None

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        """Open the run."""
        config = description | {"epochs": epochs}
        self._run = self._wandb.init(id=path.name, name=path.name, resume="allow", config=config)

    def epoch(self, record: dict[str, Any]) -> None:
        """Log every figure of the epoch."""
        self._run.log(of_epoch(record), step=record["epoch"])

    def finish(self, results: dict[str, Any]) -> None:
        """Write the results on the test rows into the summary."""
        self._run.summary.update(of_results(results))

    def close(self) -> None:
        """Close the run."""
        if self._run is not None:
            self._run.finish()
