"""Processes that decode files: how they are started, and how many this machine has cores for."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.context import BaseContext


def clean_context() -> BaseContext:
    """Return a way to start processes that hold nothing of this one.

    Decoders keep threads and locks, of which a forked process inherits the locks alone: PyAV 19 then waits
    indefinitely.
    """
    methods = multiprocessing.get_all_start_methods()
    if "forkserver" not in methods:
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker  # noqa: PLC0415  # not on Windows

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cpsc_train.data"])  # imported once, not once a process
    # Ctrl-C is for the process that started the others, and would find these in the middle of an import.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
