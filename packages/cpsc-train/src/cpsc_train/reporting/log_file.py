"""A log file with one line per event, with its time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from cpsc_train.errors import UserError
from cpsc_train.models import FUSED
from cpsc_train.printable import printable
from cpsc_train.reporting.figures import ConstantReliability, redistributed_text, spread_text
from cpsc_train.reporting.observer import Observer
from cpsc_train.writing import appending


class LogFile(Observer):
    """Observer that appends the events of a run to a file. Raises UserError if it cannot be opened, or is a link.

    `path`: the file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = appending(path)
            self._constant = ConstantReliability()
        except UserError as error:
            raise UserError(f"--log-file {error}") from None

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        data = description["data"]
        self._write(
            f"start {description['recipe']} {description['method']} seed {description['seed']} in {path}: "
            f"{data['train']} training rows, {'+'.join(data['modalities'])}, epochs {done + 1} to {epochs} "
            f"of {description['steps']['per_epoch']} optimizer steps"
        )

    def dropped(self, rows: Sequence[str]) -> None:
        self._write(f"left out {len(rows)} rows of the lists: {', '.join(rows)}")

    def redistributed(self, before: int, now: int) -> None:
        self._write(redistributed_text(before, now))

    def epoch(self, record: dict[str, Any]) -> None:
        """Write loss terms, accuracy, in-loop quantiles and times."""
        loss = " ".join(f"{name}={value:.4f}" for name, value in record["loss"].items())
        accuracy = " ".join(f"{head}={value:.4f}" for head, value in record["validation"]["accuracy"].items())
        quantile = " ".join(f"{head}={value:.4f}" for head, value in record["in_loop_quantile"].items())
        times = " ".join(f"{name}={seconds:.2f}s" for name, seconds in record["time"].items())
        reliability = spread_text(record)
        self._write(
            f"epoch {record['epoch']} {record['phase']} lr={record['lr']:.3g} loss: {loss} validation: {accuracy} "
            f"in-loop quantile: {quantile or '–'} staleness={record['staleness']:.0f} time: {times}"
            + (f" reliability: {reliability}" if reliability else "")
        )
        if warning := self._constant(record):
            self._write(f"warning: {warning}")

    def finish(self, results: dict[str, Any]) -> None:
        accuracy = {name: condition["accuracy"][FUSED] for name, condition in results["test"].items()}
        self._write("test accuracy: " + " ".join(f"{name}={value:.4f}" for name, value in accuracy.items()))

    def close(self) -> None:
        with suppress(OSError):  # the error was reported when it was written
            self._file.close()

    def _write(self, text: str) -> None:
        try:
            self._file.write(
                f"{datetime.now().astimezone().isoformat(timespec='seconds')} {printable(text, line=True)}\n"
            )
            self._file.flush()
        except OSError as error:
            raise UserError(f"--log-file {self._file.name}: cannot be written ({error.strerror})") from None
