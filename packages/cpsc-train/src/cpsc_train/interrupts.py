"""Interrupts of a command: SIGINT, SIGTERM, and an output pipe that is closed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

REPEAT = 3.0
"""Seconds within which a second signal counts as the first, because launchers and terminals often send both."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_first: list[tuple[int, float]] = []
_children: set[BaseProcess] = set()


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM, which schedulers of clusters send."""


class OutputClosed(KeyboardInterrupt):
    """The output pipe was closed, as by ``| head``."""


def install_handlers() -> None:
    """Let the first signal raise in the main thread and end the children; a later one ends the process at once.

    A signal that was ignored before, as in a background job, stays ignored.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    sys.unraisablehook = _unraisable
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_reset_in_child)


@contextmanager
def deferred() -> Iterator[None]:
    """Call the handlers of signals at the end of a block that must not stop halfway, such as the start of a process."""
    arrived: dict[int, None] = {}
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
        for number in SIGNALS:
            if callable(signal.getsignal(number)):
                handlers[number] = signal.signal(number, lambda number, _frame: arrived.setdefault(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in arrived:
            signal.raise_signal(late)


def raise_pending() -> None:
    """Raise an interrupt again that a callback of Python, such as one before a fork, has swallowed."""
    if _first:
        raise _interrupt(_first[0][0])


def ignore_signals() -> None:
    """Ignore all signals while the process ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "SIGCHLD"):  # the handler of torch raises when a data-loading process has ended
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def pending_interrupt() -> KeyboardInterrupt | None:
    """Return the exception of the first signal, or None if there was none."""
    return _interrupt(_first[0][0]) if _first else None


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return 128 plus the number of the corresponding signal.

    Examples
    --------
    >>> [exit_code(stop) for stop in (KeyboardInterrupt(), Terminated(), OutputClosed())]
    [130, 143, 141]
    """
    return 143 if isinstance(stop, Terminated) else 141 if isinstance(stop, OutputClosed) else 130


def end_with_parent() -> None:
    """End this process at once when its parent ends, which may be before any work is done here."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()


@contextmanager
def registered(child: BaseProcess) -> Iterator[None]:
    """Terminate a child if this process receives a signal within the block, or has received one."""
    _children.add(child)
    try:
        if _first:
            child.terminate()
        yield
    finally:
        _children.discard(child)


def end_children() -> None:
    """Terminate every registered child."""
    for child in list(_children):
        with suppress(OSError):
            child.terminate()


def _kill_readers() -> None:
    """Kill the data-loading processes; if terminated, each would print a traceback."""
    for process in multiprocessing.active_children():
        if process.daemon:
            with suppress(OSError, ValueError):
                process.kill()


def _reset_in_child() -> None:
    """Leave Ctrl-C to the parent of a forked process, which ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated()


def _handle(number: int, _frame: FrameType | None) -> Any:
    now = time.monotonic()
    if not _first:
        _first.append((number, now))
        end_children()
        if hasattr(signal, "SIGCHLD"):  # the handler of torch raises when a data-loading process ends first
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _kill_readers()
        raise _interrupt(number)
    if now - _first[0][1] > REPEAT:
        os._exit(128 + number)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Print no interrupt that cannot be raised, which `raise_pending` raises, and none of its consequences."""
    if not _first and not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
