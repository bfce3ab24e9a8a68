"""Results of a function for a stream of items, in their order, computed here or ahead of time by worker processes."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from cpsc_train.data.processes import clean_context
from cpsc_train.errors import UserError
from cpsc_train.interrupts import Terminated, deferred

Item = TypeVar("Item")
Result = TypeVar("Result")


class Prefetched(Generic[Item, Result]):
    """Iterable of ``work(item)`` for each item, in order; the items are drawn shortly before they are needed.

    - `work`: the function; each worker receives it once. It must not raise: an exception in a worker becomes a page of
      text.
    - `items`: arguments of the function, which are sent to the workers.
    - `workers`: processes that compute ahead; 0 computes here.
    - `decodes`: whether the function decodes files. Workers then start without the state of this process, where others
      share what lies in its memory.
    - `pin_memory`: whether tensors of the results lie in page-locked memory, for a GPU.
    """

    def __init__(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        workers: int = 0,
        decodes: bool = False,
        pin_memory: bool = False,
    ) -> None:
        with _without_warnings():
            self._loader: DataLoader[Result] = DataLoader(
                _Work(work),
                sampler=items,
                batch_size=None,
                num_workers=workers,
                persistent_workers=workers > 0,
                multiprocessing_context=clean_context() if workers and decodes else None,
                collate_fn=_unchanged,
                pin_memory=pin_memory,
                worker_init_fn=_keep_inherited,
                # For the seeds of workers: reading data must not advance the random state of the model.
                generator=torch.Generator(),
            )

    def __iter__(self) -> Iterator[Result]:
        with _without_warnings(), deferred(), _pickling_explained():
            results = iter(self._loader)
        yield from results


@contextmanager
def workers_explained(option: str) -> Iterator[None]:
    """Raise what `worker_failure` returns in place of an error of torch, which can come anywhere inside."""
    try:
        yield
    except RuntimeError as error:
        if died := worker_failure(error, option):
            raise died from None
        raise


def worker_failure(error: RuntimeError, option: str) -> BaseException | None:
    """Return what to raise in place of the error that torch raises when a worker dies; None for any other error.

    Processes that were terminated, as schedulers do with all processes of a job, count as an interrupt. `option` is
    what the user lowers if memory ran out.
    """
    text = str(error)
    if "DataLoader worker" not in text:
        return None
    if "Terminated" in text:
        return Terminated()
    return UserError(f"a process that reads samples died ({text.splitlines()[0]}): if memory ran out, lower {option}")


class _Work(TorchDataset[Result], Generic[Item, Result]):
    """A function in the form of a data set of torch."""

    def __init__(self, work: Callable[[Item], Result]) -> None:
        self._work = work

    def __getitem__(self, item: Item) -> Result:
        return self._work(item)


def _unchanged(result: Any) -> Any:
    """Return a result as it is, where torch would convert arrays to tensors."""
    return result


def _keep_inherited(_worker: int) -> None:
    """Keep the garbage collector of a worker from objects of its parent, whose threads a forked process lacks.

    FFmpeg waits for such threads indefinitely when a decoder is freed.
    """
    gc.freeze()


@contextmanager
def _pickling_explained() -> Iterator[None]:
    """Raise UserError if the function cannot be sent to a worker, as one that holds an open file or a lambda."""
    try:
        yield
    except Exception as error:  # of three types, by what cannot be pickled
        if "pickle" not in str(error):
            raise
        fix = "define its classes and functions at the top of a module, or set the number of workers to 0"
        raise UserError(f"what reads the samples cannot be sent to worker processes ({error}): {fix}") from None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress warnings of torch about the number of workers, and beside an error that workers cannot start."""
    with warnings.catch_warnings():
        for text in ("This DataLoader will create", "Got pickle error"):
            warnings.filterwarnings("ignore", message=text)
        yield
