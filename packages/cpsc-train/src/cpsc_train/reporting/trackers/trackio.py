"""Tracker for Trackio, which stores runs on this machine unless TRACKIO_SPACE_ID names a space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpsc_train.errors import needs
from cpsc_train.reporting.observer import Observer
from cpsc_train.reporting.trackers.figures import of_epoch, of_results


class Trackio(Observer):
    """Observer that logs to a run with the name of the run folder, in the project ``cpsc``."""

    def __init__(self) -> None:
        with needs("trackio", extra="trackio"):
            import trackio  # noqa: PLC0415  # an extra
        self._trackio = trackio
        self._run: Any = None

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        """Open the run."""
        self._run = self._trackio.init(
            project="cpsc", name=path.name, resume="allow", config=description | {"epochs": epochs}
        )

    def epoch(self, record: dict[str, Any]) -> None:
        """Log every figure of the epoch."""
        self._trackio.log(of_epoch(record), step=record["epoch"])

    def finish(self, results: dict[str, Any]) -> None:
        """Log the results on the test rows."""
        self._trackio.log(of_results(results))

    def close(self) -> None:
        """Close the run."""
        if self._run is not None:
            self._trackio.finish()
