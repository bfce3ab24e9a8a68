"""TensorBoard event files in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpsc_train.errors import needs
from cpsc_train.printable import visible
from cpsc_train.reporting.observer import Observer
from cpsc_train.writing import refuse_link


class TensorBoard(Observer):
    """Observer that writes event files to ``tensorboard/`` in the run folder.

    Raises
    ------
    UserError
        If TensorBoard is not installed.
    """

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
        for name, value in _flat(record):
            self._writer.add_scalar(visible(name, line=True), value, record["epoch"])

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


def _flat(record: dict[str, Any]) -> list[tuple[str, float]]:
    groups = {
        "loss": record["loss"],
        "train": record["train"],
        "in-loop quantile": record["in_loop_quantile"],
        "validation accuracy": record["validation"]["accuracy"],
        "validation coverage": {head: sets["coverage"] for head, sets in record["validation"]["coverage"].items()},
        "validation threshold": {head: sets["threshold"] for head, sets in record["validation"]["coverage"].items()},
        "validation set size": {head: sets["mean_size"] for head, sets in record["validation"]["coverage"].items()},
        "in-loop coverage": record["validation"].get("in_loop_coverage", {}),
        "seconds": record["time"],
    }
    figures = [(f"{group}/{name}", float(value)) for group, named in groups.items() for name, value in named.items()]
    return [*figures, ("lr", record["lr"]), ("staleness", record["staleness"])]
