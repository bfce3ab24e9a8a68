"""Tracker for TensorBoard: event files in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpsc_train.errors import needs
from cpsc_train.reporting.observer import Observer
from cpsc_train.reporting.trackers.figures import of_epoch
from cpsc_train.writing import refuse_link


class TensorBoard(Observer):
    """Observer that writes event files to ``tensorboard/`` in the run folder."""

    def __init__(self) -> None:
        with needs("TensorBoard", extra="tensorboard"):
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # an extra, and slow to import
        self._open = SummaryWriter
        self._writer: Any = None

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        """Open the event file, and hide the epochs that a killed run wrote after its last checkpoint."""
        refuse_link(path / "tensorboard")
        self._writer = self._open(str(path / "tensorboard"), purge_step=done + 1 if done else None)

    def epoch(self, record: dict[str, Any]) -> None:
        """Write every figure of the epoch."""
        for name, value in of_epoch(record).items():
            self._writer.add_scalar(name, value, record["epoch"])

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
