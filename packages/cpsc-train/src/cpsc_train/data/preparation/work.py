"""What checking and preparing a data set have in common: many processes, progress, and a look at the disk."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cpsc_train.data.processes import clean_context
from cpsc_train.errors import UserError
from cpsc_train.interrupts import end_with_parent

T = TypeVar("T")
Advance = Callable[[int, int], object]
"""Told how much is done, of how much."""
TRIED = 8
"""Samples whose size tells that of all."""
_work: list[Callable[[int], Any]] = []


def each(work: Callable[[int], T], names: Sequence[str], workers: int) -> Iterator[tuple[int, T]]:
    """Return ``(number, work(number))`` for each name, as they are done.

    Parameters
    ----------
    work
        What to do with a number; every process is given it once.
    names
        What each number stands for, for messages.
    workers
        Processes; 0 works here, in order.

    Raises
    ------
    UserError
        What `work` raises; and if a process dies, as a damaged file can make a decoder die: with the name of what it
        was at.
    """
    if workers == 0:
        yield from ((number, work(number)) for number in range(len(names)))
        return
    left = set(range(len(names)))
    try:
        for number, result in _pooled(work, sorted(left), workers):
            left.discard(number)
            yield number, result
    except BrokenProcessPool:  # which does not say at what: each of those that are left is given a process of its own
        for number in sorted(left):
            try:
                yield from _pooled(work, [number], 1)
            except BrokenProcessPool:
                raise UserError(
                    f"a process died at {names[number]}: a file there makes its decoder die, or memory ran out: then "
                    "lower --workers"
                ) from None


def _pooled(work: Callable[[int], T], numbers: list[int], workers: int) -> Iterator[tuple[int, T]]:
    with ProcessPoolExecutor(workers, clean_context(), initializer=_begin, initargs=(work,)) as pool:
        waiting = {pool.submit(_do, number): number for number in numbers}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool:
            raise
        except Exception:  # those before it were begun before it: of several that fail, the first is reported
            pool.shutdown(wait=True, cancel_futures=True)
            raise next(told for future in waiting if not future.cancelled() and (told := future.exception())) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(work: Callable[[int], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a word
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()  # which may be killed: then this one would wait for work without end
    _work[:] = [work]


def _do(number: int) -> Any:
    return _work[0](number)


def nothing(_done: int, _of: int) -> None:
    """Say nothing of the progress."""


def total(work: Callable[[int], int], names: Sequence[str], workers: int, advance: Advance) -> int:
    """Return the sum of what `work` returns for each name; `advance` is told on the way."""
    done_so_far = 0
    for done, (_, amount) in enumerate(each(work, names, workers), 1):
        done_so_far += amount
        advance(done, len(names))
    return done_so_far


def some(samples: int) -> list[int]:
    """Return a few numbers below `samples`, evenly spaced."""
    return [int(row) for row in np.unique(np.linspace(0, samples - 1, min(samples, TRIED)).astype(int))]


def refuse_small(out: Path, needed: int) -> None:
    """Refuse a disk that does not hold what is to be written, beside what of it is there already."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    left = needed - sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if left > free:
        raise UserError(f"{out}: about {left / 1e9:,.1f} GB are needed, and {free / 1e9:,.1f} GB are free")
