"""One process of a job or many: which rows are whose, and how what they found comes together.

Row i of a list belongs to process i mod W of W. Nothing is dropped or counted twice, whatever the remainder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from cpsc_train.errors import UserError, reason
from cpsc_train.launch import Launch
from cpsc_train.training.compute import own_gpu

_OF_GLOO = re.compile("gloo|pair closure")
"""Texts of its errors; inside a backward pass it does not name itself."""
PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it gives up."""


@dataclass(frozen=True)
class Process:
    """One process among those of the job.

    Parameters
    ----------
    rank
        Its number, from 0; the first one alone writes files and speaks.
    world
        Number of processes W.

    Examples
    --------
    >>> Process(rank=1, world=3).share(np.arange(8)).tolist()
    [1, 4, 7]
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and speaks."""
        return self.rank == 0

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the part of `rows` that is this process's, in order."""
        return rows[self.rank :: self.world]

    def gather(self, mine: Tensor, total: int) -> Tensor:
        """Put the shares of all processes back in order.

        Parameters
        ----------
        mine
            (n, ...), one entry for each row of this process's share of a list of `total` rows; entries after those
            are ignored.
        total
            Length of the list.

        Returns
        -------
        Tensor
            (total, ...), the same on every process.
        """
        if self.world == 1:
            return mine[:total]
        longest = -(-total // self.world)
        padded = mine.new_zeros((longest, *mine.shape[1:]))
        kept = min(len(mine), longest)
        padded[:kept] = mine[:kept]
        shares = [torch.empty_like(padded) for _ in range(self.world)]
        distributed.all_gather(shares, padded)
        return torch.stack(shares, 1).flatten(0, 1)[:total]

    def sum(self, mine: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.world == 1:
            return mine
        total = mine.clone()
        distributed.all_reduce(total)
        return total

    def gather_objects(self, mine: Any) -> list[Any]:
        """Return what every process holds, by rank."""
        if self.world == 1:
            return [mine]
        everyone: list[Any] = [None] * self.world
        distributed.all_gather_object(everyone, mine)
        return everyone

    def same_buffers(self, module: nn.Module) -> None:
        """Give every process the buffers of the first, such as statistics of batch normalisation."""
        if self.world > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[Process]:
    """Join the job that a launcher such as torchrun describes in the environment; alone if there is none.

    Parameters
    ----------
    device
        ``compute.device`` of the configuration; GPUs speak NCCL, CPUs gloo.

    Raises
    ------
    UserError
        If the environment does not describe a job, or the job cannot be joined.
    """
    launch = Launch.read()
    if launch.world == 1 or distributed.is_initialized():
        yield current()
        return
    gpu = device != "cpu" and torch.cuda.is_available()
    try:
        if gpu:
            torch.cuda.set_device(own_gpu())
        distributed.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"the {launch.world} processes cannot meet: {reason(error)}") from None
    try:
        yield current()
    finally:
        distributed.destroy_process_group()


def current() -> Process:
    """Return this process of the job that was joined, or the only one."""
    if not distributed.is_available() or not distributed.is_initialized():
        return Process()
    return Process(distributed.get_rank(), distributed.get_world_size())


def lost_another(error: RuntimeError) -> bool:
    """Return whether an error says that another process of the job could not be reached."""
    kinds = (distributed.DistBackendError, distributed.DistNetworkError, distributed.DistStoreError)
    return distributed.is_initialized() and (isinstance(error, kinds) or _OF_GLOO.search(str(error)) is not None)
