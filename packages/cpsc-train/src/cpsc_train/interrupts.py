"""How a process ends when it is told to: SIGINT, SIGTERM, and a reader of its output that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import IO, Any

SAME = 3.0
"""Seconds in which a second signal counts as the first: launchers and terminals often send both."""
HEARD = (signal.SIGINT, signal.SIGTERM)

_first: list[tuple[int, float]] = []
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


def look() -> None:
    """Raise again what a callback of Python's own, such as one before a fork, has swallowed."""
    if _first:
        raise _raised(_first[0][0])


def close_ears() -> None:
    """Let no signal break off what is left to do: the process is about to end."""
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)


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


def call(command: Sequence[str], *, output: IO[bytes], environment: Mapping[str, str]) -> int:
    """Run a command to its end and return its exit code; it is told to end when this process is.

    Raises
    ------
    KeyboardInterrupt
        If this process has been told already.
    """
    look()
    with subprocess.Popen(command, stdout=output, stderr=output, env=environment) as child:  # noqa: S603
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


def _raised(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated()


def _told(number: int, _frame: FrameType | None) -> Any:
    now = time.monotonic()
    if not _first:
        _first.append((number, now))
        end_children()
        if hasattr(signal, "SIGCHLD"):  # torch raises where a process that reads samples ends first
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise _raised(number)
    if now - _first[0][1] > SAME:
        os._exit(128 + number)


def _lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Say nothing of an interrupt in a place that cannot raise: `look` finds it."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
