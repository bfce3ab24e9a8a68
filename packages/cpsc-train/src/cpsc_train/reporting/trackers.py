"""Experiment trackers: observers that send the figures of a run to a tool, by the name of the tool.

The variables of a tool set the destination: those of Weights & Biases, such as WANDB_PROJECT and WANDB_MODE,
MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME, and TRACKIO_SPACE_ID; without it, Trackio stores runs on this machine.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from cpsc_train.config import unknown
from cpsc_train.errors import UserError, needs
from cpsc_train.models import FUSED
from cpsc_train.reporting.observer import Observer
from cpsc_train.writing import refuse_link


class Tracker(Observer):
    """Base of trackers, whose run has the name of the run folder; `module` is the name of the tool and of its extra."""

    module = ""

    def __init__(self) -> None:
        with needs(self.module, extra=self.module):
            self.tool: Any = import_module(self.module)
        self.run: Any = None

    def epoch(self, record: dict[str, Any]) -> None:
        self.tool.log(of_epoch(record), step=record["epoch"])

    def finish(self, results: dict[str, Any]) -> None:
        self.tool.log(of_results(results))

    def close(self) -> None:
        if self.run is not None:
            self.tool.finish()


class WandB(Tracker):
    """A resumed run continues the one with its name; figures on the test rows are in the summary."""

    module = "wandb"

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        config = description | {"epochs": epochs}
        self.run = self.tool.init(id=path.name, name=path.name, resume="allow", config=config)

    def finish(self, results: dict[str, Any]) -> None:
        self.run.summary.update(of_results(results))


class Trackio(Tracker):
    """Runs are in the project ``cpsc``."""

    module = "trackio"

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        config = description | {"epochs": epochs}
        self.run = self.tool.init(project="cpsc", name=path.name, resume="allow", config=config)


class MLflow(Tracker):
    """The description of the run is stored as parameters."""

    module = "mlflow"

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        self.run = self.tool.start_run(run_name=path.name).info.run_id
        self.tool.log_params(description | {"epochs": epochs})

    def epoch(self, record: dict[str, Any]) -> None:
        self.tool.log_metrics(of_epoch(record), step=record["epoch"], run_id=self.run)

    def finish(self, results: dict[str, Any]) -> None:
        self.tool.log_metrics(of_results(results), run_id=self.run)

    def close(self) -> None:
        if self.run is not None:
            self.tool.end_run()


class TensorBoard(Observer):
    """Event files are in ``tensorboard/`` in the run folder."""

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
        for name, value in of_epoch(record).items():
            self._writer.add_scalar(name, value, record["epoch"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


TRACKERS: dict[str, type[Observer]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def tracker(name: str) -> Observer:
    """Return the observer of a tool; raise UserError if it is unknown or not installed.

    Examples
    --------
    >>> tracker("tensorbord")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    cpsc_train.errors.UserError: unknown tracker 'tensorbord'; did you mean 'tensorboard'? (known: mlflow, ...)
    """
    if name not in TRACKERS:
        raise UserError(unknown("tracker", name, list(TRACKERS)))
    return TRACKERS[name]()


def of_epoch(record: dict[str, Any]) -> dict[str, float]:
    """Return all figures of a line of ``metrics.jsonl``, such as ``validation accuracy/fused``."""
    sets = record["validation"]["coverage"]
    groups = {
        "loss": record["loss"],
        "train": record["train"],
        "in-loop quantile": record["in_loop_quantile"],
        "validation accuracy": record["validation"]["accuracy"],
        "validation coverage": {head: of["coverage"] for head, of in sets.items()},
        "validation threshold": {head: of["threshold"] for head, of in sets.items()},
        "validation set size": {head: of["mean_size"] for head, of in sets.items()},
        "in-loop coverage": record["validation"].get("in_loop_coverage", {}),
        "seconds": record["time"],
    }
    figures = {f"{group}/{name}": float(value) for group, named in groups.items() for name, value in named.items()}
    figures |= {"lr": float(record["lr"]), "staleness": float(record["staleness"])}
    return _named(figures)


def of_results(results: dict[str, Any]) -> dict[str, float]:
    """Return the main figures of the fused decision on the test rows, such as ``test accuracy/clean``."""
    figures = {}
    for condition, of in results["test"].items():
        sets = of["coverage"][FUSED]
        figures[f"test accuracy/{condition}"] = float(of["accuracy"][FUSED])
        figures[f"test coverage/{condition}"] = float(sets["coverage"])
        figures[f"test set size/{condition}"] = float(sets["mean_size"])
    return _named(figures)


def _named(figures: dict[str, float]) -> dict[str, float]:
    """Return figures by names that every tool accepts, where a hyphen replaces any other character."""
    return {re.sub(r"[^\w\-. /]", "-", name): value for name, value in figures.items()}
