"""How processes that decode files are started."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import BaseContext


def clean_context() -> BaseContext:
    """Return a way to start processes that hold nothing of this one.

    Decoders keep threads and locks, of which a forked process inherits the locks alone: PyAV 19 then waits for ever.
    """
    methods = multiprocessing.get_all_start_methods()
    if "forkserver" not in methods:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cpsc_train.data"])  # imported once, not once a process
    return context
