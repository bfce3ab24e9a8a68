"""Order of rows: for training a function of seed and epoch alone, so a run can resume within an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Draw:
    """The samples of a batch, and the seed of their augmentation."""

    positions: NDArray[np.int64]
    """(n,) indices into the rows of the part."""
    seed: tuple[int, int] | None = None
    """Start of the seed sequence of augmentation. If None, samples are not augmented."""


class InOrder(Sampler[Draw]):
    """All rows once, in order, `batch_size` at a time; the last batch may be smaller."""

    def __init__(self, rows: int, batch_size: int) -> None:
        self._rows, self._batch_size = rows, batch_size

    def __len__(self) -> int:
        return math.ceil(self._rows / self._batch_size)

    def __iter__(self) -> Iterator[Draw]:
        for start in range(0, self._rows, self._batch_size):
            yield Draw(np.arange(start, min(start + self._batch_size, self._rows)))


class Shuffled(Sampler[Draw]):
    """All rows once per epoch, in an order drawn from (seed, epoch); every batch is divided among the processes.

    A step of the optimizer uses `accumulate` batches of `batch_size` rows each, over all processes; the last step of an
    epoch uses what is left. A single last row joins the batch before it, since its gradient would be noise and batch
    normalisation needs two rows. A process whose part of a batch is empty gets its first row, with weight 0.

    - `rows`: number of training rows.
    - `batch_size`: rows per batch, over all processes.
    - `accumulate`: batches per step.
    - `seed`: seed of the order.
    - `rank` and `world`: index of this process, and the number of processes.

    Examples
    --------
    >>> order = Shuffled(5, batch_size=2, accumulate=1, seed=0)
    >>> order.go_to(epoch=0, step=0)
    >>> [len(draw.positions) for draw in order]
    [2, 3]
    """

    def __init__(
        self, rows: int, *, batch_size: int, accumulate: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self._rows, self._batch_size, self._accumulate = rows, batch_size, accumulate
        self._seed, self._rank, self._world = seed, rank, world
        self._epoch = self._step = 0

    @property
    def steps(self) -> int:
        """Steps of the optimizer per epoch."""
        return max(1, -(-(self._rows - self._alone) // (self._batch_size * self._accumulate)))

    @property
    def _alone(self) -> bool:
        """Whether the last row would form a batch of one after another batch."""
        return self._rows % self._batch_size == 1 and self._rows > 1

    def go_to(self, *, epoch: int, step: int) -> None:
        """Set the epoch of the next pass, and its first step."""
        self._epoch, self._step = epoch, step

    def weights(self, step: int) -> list[float]:
        """Return the weight of the mean loss of each batch of a step, which make the step the mean over its rows.

        Gradients are averaged over W processes, so n out of N rows have weight nW/N.
        """
        sizes = self.sizes(step)
        return [len(range(self._rank, size, self._world)) * self._world / sum(sizes) for size in sizes]

    def __len__(self) -> int:
        return sum(len(self.sizes(step)) for step in range(self._step, self.steps))

    def __iter__(self) -> Iterator[Draw]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._rows)
        start = self._step * self._batch_size * self._accumulate
        for step in range(self._step, self.steps):
            for size in self.sizes(step):
                batch = order[start : start + size]
                mine = batch[self._rank :: self._world]
                yield Draw(mine if len(mine) else batch[:1], (self._seed, self._epoch))
                start += size

    def sizes(self, step: int) -> list[int]:
        """Return the rows of each batch of a step, over all processes."""
        start = step * self._batch_size * self._accumulate
        end = min(start + self._batch_size * self._accumulate, self._rows - self._alone)
        sizes = [min(self._batch_size, end - first) for first in range(start, end, self._batch_size)]
        if self._alone and step == self.steps - 1:
            sizes[-1] += 1
        return sizes
