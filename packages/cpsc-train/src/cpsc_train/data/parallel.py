"""One data set, many processes: what checking and preparing have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from cpsc_train.errors import UserError

T = TypeVar("T")
_work: list[Callable[[int], Any]] = []


def each(work: Callable[[int], T], count: int, workers: int) -> Iterator[tuple[int, T]]:
    """Return ``(number, work(number))`` for each number below `count`, as they are done.

    Parameters
    ----------
    work
        What to do; every process is given it once.
    count
        How many times.
    workers
        Processes; 0 works here, in order.

    Raises
    ------
    UserError
        What `work` raises, and if a process dies.
    """
    if workers == 0:
        yield from ((number, work(number)) for number in range(count))
        return
    with ProcessPoolExecutor(workers, initializer=_begin, initargs=(work,)) as pool:
        waiting = {pool.submit(_do, number): number for number in range(count)}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool:
            raise UserError(
                "a process that reads samples died: if memory ran out, lower --workers; if not, --workers 0 shows where"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(work: Callable[[int], Any]) -> None:
    _work[:] = [work]


def _do(number: int) -> Any:
    return _work[0](number)
