"""A run of an experiment as a task for an executor, and the process that trains it."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cpsc_train.data.processes import clean_context
from cpsc_train.interrupts import end_with_parent, raise_pending, registered
from cpsc_train.writing import refuse_link

LOADED = ("cpsc_train.cli", "cpsc_train.experiments", "cpsc_train.recipes", "cpsc_train.training.run", "scipy.stats")
"""Modules that a run imports, which takes longer than a short run."""


def run_command(
    arguments: Sequence[str],
    log: Path,
    *,
    threads: int | None = None,
    gpu: str | None = None,
    spawn: bool = False,
) -> int:
    """Run a command of ``cpsc``, write its output to `log`, and return its exit code.

    The command has as many `threads`, or one for each core, and sees one `gpu`, or all. It ends when this process ends,
    and may crash alone. With `spawn`, no process is kept for further commands, which a signal to all processes of a job
    could end. Raises KeyboardInterrupt if this process has been interrupted already.
    """
    raise_pending()
    refuse_link(log)
    log.write_bytes(b"")
    context = multiprocessing.get_context("spawn") if spawn else clean_context(LOADED)
    process = context.Process(target=_command, args=(list(arguments), str(log), threads, gpu))
    process.start()
    with registered(process):
        process.join()
    return int(process.exitcode or 0)


def _command(arguments: list[str], log: str, threads: int | None, gpu: str | None) -> None:
    import torch  # noqa: PLC0415  # not in the process that starts this one

    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = ["cpsc", *arguments]
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when the command first uses CUDA
    if threads is not None:
        torch.set_num_threads(threads)
    runpy.run_module("cpsc_train", run_name="__main__")


@dataclass(frozen=True)
class Task:
    """A run to train, from the configuration ``FOLDER.toml``; its output goes to ``FOLDER.log``."""

    label: str
    """Name in messages."""
    folder: Path
    """The run folder."""
    directory: Path = field(default_factory=Path.cwd)
    """Working directory, to which relative paths of the configuration refer."""

    def __str__(self) -> str:
        return self.label

    @property
    def config(self) -> Path:
        """The configuration of a run that has not started."""
        return self.folder.with_suffix(".toml")

    @property
    def log(self) -> Path:
        """The output of the run."""
        return self.folder.with_suffix(".log")

    @property
    def done(self) -> bool:
        """Whether the run is finished."""
        return (self.folder / "results.json").exists()

    @property
    def started(self) -> bool:
        """Whether the run folder exists, from which the run resumes."""
        return (self.folder / "config.toml").exists()

    def train(self, *, threads: int | None = None, gpu: str | None = None, spawn: bool = False) -> int:
        """Train in another process and return its exit code; 0 without training if the run is finished.

        Options are those of `run_command`.
        """
        if self.done:
            return 0
        new = ["--config", str(self.config), "--out", str(self.folder)]
        arguments = ["train", "--quiet", *(["--resume", str(self.folder)] if self.started else new)]
        return run_command(arguments, self.log, threads=threads, gpu=gpu, spawn=spawn)
