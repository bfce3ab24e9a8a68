"""Tracker for MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME set the destination."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpsc_train.errors import needs
from cpsc_train.reporting.observer import Observer
from cpsc_train.reporting.trackers.figures import of_epoch, of_results


class MLflow(Observer):
    """Observer that logs to a run with the name of the run folder."""

    def __init__(self) -> None:
        with needs("mlflow", extra="mlflow"):
            import mlflow  # noqa: PLC0415  # an extra
        self._mlflow = mlflow
        self._run = ""

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        """Open the run."""
        self._run = self._mlflow.start_run(run_name=path.name).info.run_id
        self._mlflow.log_params(description | {"epochs": epochs})

    def epoch(self, record: dict[str, Any]) -> None:
        """Log every figure of the epoch."""
        self._mlflow.log_metrics(of_epoch(record), step=record["epoch"], run_id=self._run)

    def finish(self, results: dict[str, Any]) -> None:
        """Log the results on the test rows."""
        self._mlflow.log_metrics(of_results(results), run_id=self._run)

    def close(self) -> None:
        """Close the run."""
        if self._run:
            self._mlflow.end_run()
