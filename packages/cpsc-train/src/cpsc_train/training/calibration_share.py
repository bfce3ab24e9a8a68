"""Calibration samples of one process, for the predictor in the loop: in memory, or read again at each refresh.

Shapes: N calibration samples in all, n that belong to this process, B samples of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from cpsc_train.data import Batch
from cpsc_train.data.order import Draw
from cpsc_train.training.distributed import Process
from cpsc_train.training.setup import Setup

COMPLETE: Mapping[str, NDArray[np.bool_]] = MappingProxyType({})
"""Presence if no sample lacks a modality."""


class CalibrationShare(ABC):
    """Samples i with i mod W equal to the rank of this process, of N in all; a process without any has the first one.

    - `process`: this process, of W.
    - `total`: N.
    - `present`: which of the N samples have a modality, (N,), for those that some samples lack.
    - `most`: most samples of a batch that `read` yields.
    """

    device: torch.device
    """Device of the batches."""

    def __init__(
        self, *, process: Process, total: int, present: Mapping[str, NDArray[np.bool_]] = COMPLETE, most: int
    ) -> None:
        self.process, self.total, self.present, self.most = process, total, present, most
        self._size = len(process.own(0, total)) or 1

    @abstractmethod
    def read(self, first: int, count: int) -> Iterator[Batch]:
        """Yield the batches of this process's samples among `first`, `first` + 1, … (mod N), `count` in all, in order.

        Every process yields as many batches, so that the model can communicate in each; beyond the end of its samples,
        a process yields any single one.
        """

    def ranges(self, first: int, count: int) -> list[tuple[int, int]]:
        """Return `first`, `first` + 1, … (mod N), `count` in all, as one or two ranges of samples."""
        beyond = first + count - self.total
        return [(first, first + count)] if beyond <= 0 else [(first, self.total), (0, beyond)]

    def portions(self, first: int, count: int) -> list[range]:
        """Return the places of the samples of each batch of `read` in this process's share, modulo n."""
        ranges = self.ranges(first, count)
        mine = [self.process.own(*bounds) for bounds in ranges]
        start, left = mine[0].start, sum(map(len, mine))
        longest = sum(-(-(stop - begin) // self.process.world) for begin, stop in ranges)
        sizes = [min(self.most, left - begin) for begin in range(0, longest, self.most)]
        return [range(start + k * self.most, start + k * self.most + max(1, size)) for k, size in enumerate(sizes)]


class Held(CalibrationShare):
    """A share in memory.

    - `samples`: all of them in one batch, on the device.
    - `options`: those of `CalibrationShare`.
    """

    def __init__(self, samples: Batch, **options: Any) -> None:
        super().__init__(**options)
        self._samples = replace(samples, ids=())
        self.device = samples.labels.device

    def read(self, first: int, count: int) -> Iterator[Batch]:
        """Yield batches from memory."""
        for portion in self.portions(first, count):
            rows = torch.arange(portion.start, portion.stop, device=self.device) % self._size
            yield self._samples.mapped(partial(torch.index_select, dim=0, index=rows))


class Streamed(CalibrationShare):
    """A share that is read from the data set at each refresh; a loader with workers reads the next one ahead.

    - `load`: returns a loader of the share in a given order.
    - `together`: most samples read at once, for each worker.
    - `device`: device of the batches.
    - `options`: those of `CalibrationShare`.
    """

    def __init__(
        self,
        load: Callable[[Sampler[Draw]], Iterable[Batch]],
        *,
        together: int,
        device: torch.device,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.device = device
        self._together = together
        self._loader = load(_Order(self._draws))
        self._ahead: Iterator[Batch] = iter(())
        self._next: tuple[int, int] | None = None

    def read(self, first: int, count: int) -> Iterator[Batch]:
        """Yield batches from the loader."""
        if self._next != (first, count):
            self._next = first, count
            self._ahead = iter(self._loader)
        for portion in self.portions(first, count):
            yield Batch.joined([next(self._ahead) for _ in self._pieces(portion)]).to(self.device)
        self._next = (first + count) % self.total, count

    def _draws(self) -> Iterator[Draw]:
        """Yield what the next refresh reads, and those of the same size after it, without end."""
        if self._next is None:
            return
        first, count = self._next
        while True:
            for portion in self.portions(first, count):
                yield from map(Draw, self._pieces(portion))
            first = (first + count) % self.total

    def _pieces(self, portion: range) -> list[NDArray[np.int64]]:
        """Return the places of a portion in the share, in the parts that are read at once."""
        places = np.arange(portion.start, portion.stop) % self._size
        return [places[start : start + self._together] for start in range(0, len(places), self._together)]


class _Order(Sampler[Draw]):
    """Draws that a function generates."""

    def __init__(self, draws: Callable[[], Iterator[Draw]]) -> None:
        self._draws = draws

    def __iter__(self) -> Iterator[Draw]:
        return self._draws()


def calibration_share(setup: Setup) -> CalibrationShare:
    """Return the calibration samples of this process, in memory if they take at most ``conformal.memory_mib``."""
    config, process = setup.config, setup.process
    total = len(setup.splits.calibration)
    options = {
        "process": process,
        "total": total,
        "present": setup.present("calibration"),
        "most": 4 * setup.own_batch,
    }
    if len(process.own(0, total)) * setup.sample_bytes("calibration") <= config.conformal.memory_mib * 2**20:
        return Held(Batch.joined(list(setup.batches("calibration"))).to(setup.device), **options)
    load = partial(setup.loader, "calibration")
    return Streamed(load, together=setup.own_batch, device=setup.device, **options)
