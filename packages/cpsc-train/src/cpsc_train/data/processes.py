"""Start method of processes that decode files, and the number of usable cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from typing import Any


def clean_context(loaded: Sequence[str] = ("cpsc_train.data",)) -> Any:
    """Return a context that starts processes without the state of this one, but with some modules loaded.

    Decoders keep threads and locks, of which a forked process inherits the locks only; PyAV 19 then waits indefinitely.
    """
    methods = multiprocessing.get_all_start_methods()
    if "forkserver" not in methods:
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker  # noqa: PLC0415  # not on Windows

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(loaded))  # imported once for all processes
    # Ctrl-C is handled by the parent process, and would interrupt these during an import.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
