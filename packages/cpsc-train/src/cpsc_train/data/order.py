"""In which order training rows are met: a function of seed and epoch alone, so that a run can go on in mid-epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Draw:
    """Which samples make a batch, and the randomness they are read with.

    Parameters
    ----------
    positions
        (n,) places in the rows of the part.
    seed
        Start of the seed sequence of augmentation; ``None``: samples are read as they are.
    """

    positions: NDArray[np.int64]
    seed: tuple[int, int] | None = None


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
    """All rows once an epoch, in an order drawn anew from (seed, epoch); every batch is shared out over the processes.

    A step of the optimizer takes `accumulate` batches of `batch_size` rows each, counted over all processes; the last
    step of an epoch takes what is left, and a row that would be left alone goes into the batch before it: its gradient
    would be noise, and batch normalisation cannot take it. A process whose share of a batch is empty is given its first
    row, which `weights` then counts as nothing.

    Parameters
    ----------
    rows
        Number of training rows.
    batch_size
        Rows a batch, over all processes.
    accumulate
        Batches a step.
    seed
        Seed of the order.
    rank, world
        This process and their number.

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
        """Steps of the optimizer an epoch."""
        return max(1, -(-(self._rows - self._alone) // (self._batch_size * self._accumulate)))

    @property
    def _alone(self) -> bool:
        """Whether the last row would be a batch by itself, and there is one before it."""
        return self._rows % self._batch_size == 1 and self._rows > 1

    def go_to(self, *, epoch: int, step: int) -> None:
        """Let the next pass be `epoch`, from its step `step` on."""
        self._epoch, self._step = epoch, step

    def weights(self, step: int) -> list[float]:
        """Return what the mean loss of each batch of a step counts, so that the step is the mean over its rows.

        Gradients are averaged over W processes, so a share of n out of N rows counts nW/N.
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
