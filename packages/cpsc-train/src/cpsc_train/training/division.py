"""The rows of a part, divided among the processes of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpsc_train.evaluation import Share
from cpsc_train.training.distributed import Process


@dataclass(frozen=True)
class Division(Share):
    """Rows i of a part with i mod W equal to the rank of this process, of `total` in all.

    Values are exchanged on `device`, since NCCL connects GPUs only.
    """

    process: Process
    total: int
    device: torch.device

    @property
    def rank(self) -> int:
        """Index of this process."""
        return self.process.rank

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.process.world

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values of this process's rows; those of the first row if it has none."""
        return np.ascontiguousarray(values[self.rank :: self.world] if self.rank < self.total else values[:1])

    def gather(self, mine: NDArray[Any]) -> NDArray[Any]:
        """Return the values of all rows in every process."""
        if self.world == 1:
            return mine
        return self.process.gather(self._tensor(mine), self.total).cpu().numpy()

    def gather_to(self, rank: int, mine: NDArray[Any], start: int, stop: int) -> NDArray[Any] | None:
        """Return the values of all rows in process `rank`."""
        if self.world == 1:
            return mine
        count = min(stop * self.world, self.total) - start * self.world
        gathered = self.process.gather_to(rank, self._tensor(mine), count)
        return None if gathered is None else gathered.cpu().numpy()

    def sum(self, mine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over all processes."""
        return mine if self.world == 1 else self.process.sum(self._tensor(mine)).cpu().numpy()

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)
