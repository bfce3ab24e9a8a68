"""How a process ends when it is told to: SIGINT, SIGTERM, and a reader of its output that goes away."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Any

SAME = 3.0
"""Seconds in which a second signal counts as the first: launchers and terminals often send both."""
HEARD = (signal.SIGINT, signal.SIGTERM)
STARTED_BY_US = "CPSC_STDIN_IS_PARENT"
"""In the environment of a command that `call` runs: its input ends when the process that called it does."""

_first: list[tuple[int, float]] = []
_holding: list[bool] = []
_children: set[subprocess.Popen[bytes]] = set()


class Terminated(KeyboardInterrupt):
    """The process was asked to end, as schedulers of clusters do."""


class OutputClosed(KeyboardInterrupt):
    """Nobody reads what the command says any more, as behind ``| head``."""


def listen() -> None:
    """Let the first signal raise, in the main thread, and end this process's children; a later one ends it at once.

    A signal that was being ignored before, as by a job in the background, still is.
    """
    for number in HEARD:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _told)
    sys.unraisablehook = _lost
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_deaf)
    if os.environ.pop(STARTED_BY_US, None):
        end_when(lambda: os.read(0, 1))  # below sys.stdin, whose lock must be free when the process ends


@contextmanager
def held() -> Iterator[None]:
    """Let a first signal wait for the end of what is inside, such as the start of a process, which cannot end halfway.

    Raises
    ------
    KeyboardInterrupt
        At the end, if the signal came inside.
    """
    told_before = bool(_first)
    _holding.append(True)
    try:
        yield
    finally:
        _holding.pop()
    if _first and not told_before and not _holding:
        _end_readers()
        raise _raised(_first[0][0])


def look() -> None:
    """Raise again what a callback of Python's own, such as one before a fork, has swallowed."""
    if _first:
        raise _raised(_first[0][0])


def close_ears() -> None:
    """Let no signal break off what is left to do: the process is about to end."""
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "SIGCHLD"):  # torch raises there when a process that reads samples has been ended
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def told_to_end() -> KeyboardInterrupt | None:
    """Return what the first signal raised, or ``None`` if there was none."""
    return _raised(_first[0][0]) if _first else None


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return 128 and the number of the signal that says the same.

    Examples
    --------
    >>> [exit_code(stop) for stop in (KeyboardInterrupt(), Terminated(), OutputClosed())]
    [130, 143, 141]
    """
    return 143 if isinstance(stop, Terminated) else 141 if isinstance(stop, OutputClosed) else 130


def end_with_parent() -> None:
    """End this process of a pool when the one that started it ends, which may be before any work is done here."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        if not parent.is_alive():
            os._exit(128 + signal.SIGTERM)
        end_when(parent.join)


def end_when(returns: Callable[[], object]) -> None:
    """End this process at once when a call returns: its parent is gone, and another may do its work already."""

    def watch() -> None:
        returns()
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def call(command: Sequence[str], *, output: IO[bytes], environment: Mapping[str, str]) -> int:
    """Run a command of ``cpsc`` to its end and return its exit code.

    It receives the signals of this process, and ends with it where this process is killed.

    Raises
    ------
    KeyboardInterrupt
        If this process has been told already.
    """
    look()
    environment = {**environment, STARTED_BY_US: "1"}
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment
    ) as child:
        _children.add(child)
        try:
            if _first:  # between the question above and the child's being known
                child.terminate()
            return child.wait()
        finally:
            _children.discard(child)


def end_children() -> None:
    """Tell every command that `call` is running to end."""
    for child in list(_children):
        with suppress(OSError):
            child.terminate()


def _end_readers() -> None:
    """Kill the processes that only read samples for this one; told to end, they would say so, each in its own way."""
    for process in multiprocessing.active_children():
        if process.daemon:
            with suppress(OSError, ValueError):
                process.kill()


def _deaf() -> None:
    """In a process forked from this one: Ctrl-C is for the first, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raised(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated()


def _told(number: int, _frame: FrameType | None) -> Any:
    now = time.monotonic()
    if not _first:
        _first.append((number, now))
        end_children()
        if hasattr(signal, "SIGCHLD"):  # torch raises where a process that reads samples ends first
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if _holding:
            return
        _end_readers()
        raise _raised(number)
    if now - _first[0][1] > SAME:
        os._exit(128 + number)


def _lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Say nothing of an interrupt in a place that cannot raise: `look` finds it; nor of what comes of being ended."""
    if not _first and not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
