"""Work shared by the checks and preparations of a data set: processes, progress, and free space."""

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
"""Called with how much is done, of how much."""
TRIED = 8
"""Samples from which the size of all is estimated."""
_work: list[Callable[[int], Any]] = []


def each(work: Callable[[int], T], names: Sequence[str], workers: int) -> Iterator[tuple[int, T]]:
    """Yield ``(number, work(number))`` for the number of each name, in order of completion.

    `work` is sent to each process once. If `workers` is 0, the work is done here, in order. Raises UserError as raised
    by `work`; or with the name, if a process dies, as a damaged file can make a decoder crash.
    """
    if workers == 0:
        yield from ((number, work(number)) for number in range(len(names)))
        return
    left = set(range(len(names)))
    try:
        for number, result in _pooled(work, sorted(left), workers):
            left.discard(number)
            yield number, result
    except BrokenProcessPool:  # which does not name the number: the others are run again, in a process each
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
        except Exception:  # of several that fail, the first in order is reported, which was started before the others
            pool.shutdown(wait=True, cancel_futures=True)
            raise next(
                error for future in waiting if not future.cancelled() and (error := future.exception())
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(work: Callable[[int], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()  # if that is killed, this process would wait for work indefinitely
    _work[:] = [work]


def _do(number: int) -> Any:
    return _work[0](number)


def silent(_done: int, _of: int) -> None:
    """Report no progress."""


def total(work: Callable[[int], int], names: Sequence[str], workers: int, advance: Advance) -> int:
    """Return the sum of ``work(number)`` over the numbers of the names, and report progress to `advance`."""
    amounts = 0
    for done, (_, amount) in enumerate(each(work, names, workers), 1):
        amounts += amount
        advance(done, len(names))
    return amounts


def refuse_small(out: Path, count: int, size: Callable[[int], int]) -> None:
    """Refuse a disk without room for `count` items in addition to the content of `out`.

    The bytes of an item are estimated as the mean of ``size(number)`` over a few evenly spaced ones.
    """
    some = np.unique(np.linspace(0, count - 1, min(count, TRIED)).astype(int))
    needed = round(float(np.mean([size(int(number)) for number in some])) * count) if count else 0
    existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    left = needed - sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if left > free:
        raise UserError(f"{out}: about {left / 1e9:,.1f} GB are needed, and {free / 1e9:,.1f} GB are free")
