"""Commands of ``cpsc`` in processes of their own, forked from one that has loaded the libraries."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from cpsc_train.data.processes import clean_context
from cpsc_train.interrupts import end_with_parent, raise_pending, registered
from cpsc_train.writing import refuse_link

LOADED = ("cpsc_train.cli", "cpsc_train.experiments", "cpsc_train.recipes", "cpsc_train.training.run", "scipy.stats")
"""Modules that a run imports, which takes longer than a short run."""


def run_command(arguments: Sequence[str], log: Path, *, threads: int | None = None) -> int:
    """Run a command of ``cpsc``, write its output to `log`, and return its exit code.

    The command has as many `threads`, or one for each core. It ends when this process ends, and may crash alone. Raises
    KeyboardInterrupt if this process has been interrupted already.
    """
    raise_pending()
    refuse_link(log)
    log.write_bytes(b"")
    process = clean_context(LOADED).Process(target=_command, args=(list(arguments), str(log), threads))
    process.start()
    with registered(process):
        process.join()
    return int(process.exitcode or 0)


def _command(arguments: list[str], log: str, threads: int | None) -> None:
    import torch  # noqa: PLC0415  # not in the process that starts this one

    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = ["cpsc", *arguments]
    if threads is not None:
        torch.set_num_threads(threads)
    runpy.run_module("cpsc_train", run_name="__main__")
