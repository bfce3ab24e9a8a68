"""One process of a job: its share of the rows, the exchange of results with the others, and errors with a cure.

Row i of a list belongs to process i mod W of W, so no row is dropped or counted twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from cpsc_train.data.prefetch import worker_failure
from cpsc_train.errors import JobError, UserError, out_of_memory, reason
from cpsc_train.launch import Launch
from cpsc_train.training.compute import own_gpu
from cpsc_train.training.config import RunConfig

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others before it fails."""
TOGETHER = timedelta(seconds=2)
"""Time within which the first process fails, too, in an error of all processes, which it alone prints."""
_GLOO = re.compile("gloo|pair closure")
"""Matches messages of errors of gloo, which does not name itself inside a backward pass."""


@dataclass(frozen=True)
class Process:
    """A process of the job: its `rank`, from 0, and the size W of its `world`.

    Examples
    --------
    >>> Process(rank=1, world=3).share(np.arange(8)).tolist()
    [1, 4, 7]
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the entries of `rows` that belong to this process, in order."""
        return rows[self.rank :: self.world]

    def own(self, first: int, stop: int) -> range:
        """Return the places in this process's share of those of the rows `first` to `stop` − 1 that it has.

        Examples
        --------
        >>> Process(rank=1, world=3).own(2, 8)  # rows 4 and 7, of the share 1, 4, 7, …
        range(1, 3)
        """
        return range(-((self.rank - first) // self.world), -((self.rank - stop) // self.world))

    def gather(self, mine: Tensor, total: int, first: int = 0) -> Tensor:
        """Return the entries (total, ...) of all processes in order, the same on every process.

        `mine` (n, ...) has one entry for each row of this process's share of the `total` rows from row `first` on;
        further entries are ignored.
        """
        if self.world == 1:
            return mine[:total]
        padded = self._padded(mine, total)
        shares = [torch.empty_like(padded) for _ in range(self.world)]
        distributed.all_gather(shares, padded)
        begin = first % self.world  # the process with row `first`
        return torch.stack(shares[begin:] + shares[:begin], 1).flatten(0, 1)[:total]

    def gather_to(self, rank: int, mine: Tensor, total: int) -> Tensor | None:
        """Return what `gather` returns in process `rank`, and None in the others."""
        if self.world == 1:
            return mine[:total]
        padded = self._padded(mine, total)
        shares = [torch.empty_like(padded) for _ in range(self.world)] if rank == self.rank else None
        distributed.gather(padded, shares, dst=rank)
        return None if shares is None else torch.stack(shares, 1).flatten(0, 1)[:total]

    def _padded(self, mine: Tensor, total: int) -> Tensor:
        """Return as many entries as the largest share of `total` rows has."""
        longest = -(-total // self.world)
        padded = mine.new_zeros((longest, *mine.shape[1:]))
        count = min(len(mine), longest)
        padded[:count] = mine[:count]
        return padded

    def sum(self, mine: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.world == 1:
            return mine
        total = mine.clone()
        distributed.all_reduce(total)
        return total

    def gather_objects(self, mine: Any) -> list[Any]:
        """Return the objects of all processes, by rank."""
        if self.world == 1:
            return [mine]
        objects: list[Any] = [None] * self.world
        distributed.all_gather_object(objects, mine)
        return objects

    def same_buffers(self, module: nn.Module) -> None:
        """Copy the buffers of the first process, such as batch-norm statistics, to all others."""
        if self.world > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)

    def host_group(self) -> distributed.ProcessGroup:
        """Return a new group of all processes, for another thread; tensors in host memory are exchanged by gloo.

        Every process must call this.
        """
        return cast("distributed.ProcessGroup", distributed.new_group(backend="gloo", timeout=TIMEOUT))

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[Process]:
    """Join the job that a launcher such as torchrun describes in the environment, if there is one.

    GPUs communicate by NCCL, CPUs by gloo; `device` is ``compute.device``. Raises UserError if the environment does not
    describe a job, or the processes cannot connect.
    """
    launch = Launch.read()
    if launch.world_size == 1 or distributed.is_initialized():
        yield current()
        return
    gpu = device != "cpu" and torch.cuda.is_available()
    try:
        if gpu:
            torch.cuda.set_device(own_gpu())
        distributed.init_process_group("nccl" if gpu else "gloo", timeout=TIMEOUT)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"the {launch.world_size} processes cannot connect: {reason(error)}") from None
    try:
        yield current()
    except JobError:
        raise
    except UserError as error:
        if _fails_alone(current()):
            raise JobError(str(error)) from None
        raise
    finally:
        distributed.destroy_process_group()


def _fails_alone(process: Process) -> bool:
    """Return whether a process that has failed is not the first, and the first does not fail, too, in `TOGETHER`."""
    store = distributed.distributed_c10d._get_default_store()
    try:
        if process.first:
            store.set("failed", "")
        else:
            store.wait(["failed"], TOGETHER)
    except distributed.DistStoreError:
        return True
    except distributed.DistNetworkError:  # the process that has the store has ended
        pass
    return False


def current() -> Process:
    """Return this process, of the job that was joined if there is one."""
    if not distributed.is_available() or not distributed.is_initialized():
        return Process()
    return Process(distributed.get_rank(), distributed.get_world_size())


def lost_another(error: RuntimeError) -> bool:
    """Return whether an error means that another process of the job could not be reached."""
    kinds = (distributed.DistBackendError, distributed.DistNetworkError, distributed.DistStoreError)
    return distributed.is_initialized() and (isinstance(error, kinds) or _GLOO.search(str(error)) is not None)


@contextmanager
def explained(config: RunConfig) -> Iterator[None]:
    """Raise UserError, with a cure, in place of an error of torch: no memory, a lost process, a batch of one row.

    Worker processes that were terminated, as schedulers do with all processes of a job, count as an interrupt.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _smaller_batch(config, error) from None
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"batch normalisation needs more than one row, and batch_size = {config.batch_size} leaves a process one: "
            "raise batch_size"
        ) from None
    except RuntimeError as error:
        raise _explanation(config, error) from None


def _explanation(config: RunConfig, error: RuntimeError) -> BaseException:
    if died := worker_failure(error, "compute.workers"):
        return died
    if lost_another(error):
        return JobError(
            f"another process of the job ended or did not answer ({reason(error)}): see its output; resume with cpsc "
            "train --resume"
        )
    return _smaller_batch(config, error) if out_of_memory(error) else error


def _smaller_batch(config: RunConfig, error: BaseException) -> UserError:
    half, accumulate = max(1, config.batch_size // 2), 2 * config.optimizer.accumulate
    cause = next(iter(str(error).splitlines()), "")[:120]
    return UserError(
        f"out of memory with batch_size = {config.batch_size} ({cause}): try --set batch_size={half} --set "
        f"optimizer.accumulate={accumulate}, which makes the same step"
    )
