"""The run folder: the files of a run, from which it can be evaluated and resumed; files that no run wrote are named."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cpsc_train.config import parse_json, read_toml, write_toml
from cpsc_train.data import Dataset, Splits
from cpsc_train.data.media.decoders import versions
from cpsc_train.data.row_weights import write_row_weights
from cpsc_train.data.saved_splits import read_ids
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import UserError, reason
from cpsc_train.launch import Launch
from cpsc_train.printable import without_credentials
from cpsc_train.reading import read_file
from cpsc_train.writing import appending, locked, refuse_link, replacing, saying, write


@contextmanager
def written_by_a_run(folders: Iterable[Path]) -> Iterator[None]:
    """Raise UserError in place of an error from unexpected content of the files in run folders."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        where = ", ".join(str(folder) for folder in folders)
        raise UserError(
            f"{where}: a file does not hold what a run writes ({reason(error)}): restore it, or evaluate the run again"
        ) from error


SPLITS = "splits.npz"
PACKAGES = ("conformal-core", "cpsc-rsc", "cpsc-gsc", "cpsc-train", "numpy", "torch")


class RunFolder:
    """Files of one run.

    ==================== ==========================================================================
    ``config.toml``      the complete configuration
    ``splits.npz``       sample ids, and the rows of each part
    ``environment.json`` versions, platform, command, time of the start; status: running, done, interrupted or failed
    ``metrics.jsonl``    one line an epoch
    ``checkpoint.pt``    the parameters of the best epoch
    ``checkpoints/``     the newest states, from which the run can be resumed: a folder each
    ``predictions.npz``  probabilities of the clean test rows, and features
    ``rows.csv``         weight of each training row, if the method weights them
    ``results.json``     the results of the evaluation
    ``.lock``            locked by the process that writes
    ==================== ==========================================================================

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoint = self.path / "checkpoint.pt"
        self.checkpoints = self.path / "checkpoints"
        self.predictions = self.path / "predictions.npz"

    def __fspath__(self) -> str:
        return str(self.path)

    def refuse_if_present(self) -> None:
        """Refuse an existing path."""
        if self.path.exists():
            raise UserError(
                f"{self.path}: exists already, and a run never overwrites: choose another --out, or continue it with "
                f"--resume {self.path}"
            )

    def create(self, config: dict[str, Any], splits: Splits, dataset: Dataset) -> None:
        """Create the folder, with configuration and splits.

        Raises
        ------
        UserError
            If it exists or cannot be created.
        """
        self.refuse_if_present()
        # Created beside its place and then moved, so it is complete even if the run is killed; the next run reuses
        # what a killed one left.
        partial = self.path.with_name(f"{self.path.name}.partial")
        refuse_link(partial)
        try:
            partial.mkdir(parents=True, exist_ok=True)
            # Windows moves no folder that holds an open file.
            with locked(partial) if sys.platform != "win32" else nullcontext():
                try:
                    write_toml(partial / "config.toml", config)
                    splits.save(partial / SPLITS, dataset)
                    partial.rename(self.path)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be made ({reason(error)}): choose another --out") from None
        finally:
            with suppress(OSError):  # empty, where a full disk left no room for the lock
                partial.rmdir()

    def locked(self) -> AbstractContextManager[None]:
        """Lock the folder; raise UserError if another process has locked it."""
        return locked(self.path)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the status of the run in ``environment.json``, however it ends."""
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        self._write_environment("running", started)
        status = "failed"
        try:
            yield
            status = "done"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            self._write_environment(status, started)

    def forget_after(self, epoch: int) -> None:
        """Remove the lines of ``metrics.jsonl`` after `epoch`, and files that a killed process left incomplete."""
        for partial in self.path.glob("*.partial"):
            if partial.is_symlink() or not partial.is_dir():  # a folder is of another run
                with saying(partial):
                    partial.unlink(missing_ok=True)
        path = self.path / "metrics.jsonl"
        if path.exists():
            records = [record for record in self.read_metrics() if record["epoch"] <= epoch]
            write(path, "".join(json.dumps(record) + "\n" for record in records))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl``, up to the first that is incomplete or damaged."""
        path = self.path / "metrics.jsonl"
        records: list[dict[str, Any]] = []
        for line in read_file(path).splitlines() if path.exists() else ():
            try:
                record = parse_json(line)
            except ValueError:
                break
            if not isinstance(record, dict) or type(record.get("epoch")) is not int:
                break
            records.append(record)
        return records

    def log(self, record: dict[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``."""
        path = self.path / "metrics.jsonl"
        with saying(path), appending(path) as file:
            file.write(json.dumps(record) + "\n")

    def write_results(self, results: dict[str, Any]) -> None:
        """Write ``results.json``."""
        self._write_json("results.json", results)

    def read_results(self) -> dict[str, Any] | None:
        """Return ``results.json``; None if the run has not ended."""
        path = self.path / "results.json"
        if not path.exists():
            return None
        content = read_file(path)
        try:
            return dict(parse_json(content))
        except ValueError as error:
            raise UserError(f"{path}: is not readable JSON ({error})") from None

    def read_environment(self) -> dict[str, Any]:
        """Return ``environment.json``; empty if it is missing or damaged."""
        try:
            return dict(parse_json(read_file(self.path / "environment.json")))
        except (OSError, ValueError):
            return {}

    def read_config(self) -> dict[str, Any]:
        """Return the content of ``config.toml``; raise UserError if this is not a run folder."""
        if not self.path.exists():
            raise UserError(f"{self.path}: no such folder")
        if not (self.path / "config.toml").exists():
            raise UserError(f"{self.path}: is not a run folder (it has no config.toml)")
        return read_toml(self.path / "config.toml")

    def read_splits(self, dataset: Dataset) -> Splits:
        """Return the splits of the run."""
        return Splits.load(self.path / SPLITS, dataset)

    def read_ids(self, part: str) -> StringArray:
        """Return the sample ids of a part of the splits."""
        return read_ids(self.path / SPLITS, part)

    def _write_environment(self, status: str, started: str) -> None:
        self._write_json(
            "environment.json",
            {
                "status": status,
                "started": started,
                "command": [without_credentials(argument) for argument in sys.argv],
                "python": platform.python_version(),
                "platform": platform.platform(),
                "cpus": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "processes": Launch.read().world_size,
                "cpu_seconds": round(time.process_time(), 2),
                "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                "versions": {package: version(package) for package in PACKAGES} | versions(),
            },
        )

    def write_predictions(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Write ``predictions.npz``, numeric arrays by name."""
        with replacing(self.predictions) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    def write_row_weights(self, dataset: Dataset, rows: NDArray[np.int64], weights: dict[str, NDArray[Any]]) -> None:
        """Write ``rows.csv``: id, label and weight by head of each training row, in ascending order of mean weight."""
        names = [dataset.classes[label] for label in dataset.labels[rows]]
        write_row_weights(self.path / "rows.csv", dataset.ids_of(rows), names, weights)

    def _write_json(self, name: str, value: Any) -> None:
        write(self.path / name, json.dumps(value, indent=1) + "\n")
