"""Batches of a part of the data, in a fixed or a seeded order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from torch.utils.data import Dataset as TorchDataset

from cpsc_train.data.batch import Batch
from cpsc_train.data.dataset import Dataset
from cpsc_train.data.noise import Noise
from cpsc_train.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class _Part(TorchDataset[Batch]):
    """Some rows of a data set, read a whole batch at a time."""

    dataset: Dataset
    rows: NDArray[np.int64]
    preprocessing: Preprocessing
    noise: Noise | None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        rows = self.rows[positions]
        ids = tuple(self.dataset.ids[row] for row in rows)
        inputs = {}
        for name, modality in self.dataset.modalities.items():
            values = self.dataset.read(name, rows)
            if self.noise is not None and self.noise.modality == name:
                values = self.noise(values, ids, modality, self.preprocessing.scales[name])
            inputs[name] = torch.from_numpy(self.preprocessing(name, values))
        return Batch(ids, torch.from_numpy(self.dataset.labels[rows]), inputs)


def loader(
    dataset: Dataset,
    rows: NDArray[np.int64],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Return an iterable of `Batch`.

    Parameters
    ----------
    dataset, rows, preprocessing
        What to read, which rows of it, and how values are standardised.
    batch_size
        Samples a batch; the last one may be smaller: no sample is dropped.
    generator
        Shuffles anew at each pass, from this source of randomness; in the order of `rows` if absent.
    noise
        A noise condition to apply.
    pin_memory
        Whether batches are placed in page-locked memory, for a GPU.
    """
    part = _Part(dataset, rows, preprocessing, noise)
    order = SequentialSampler(part) if generator is None else RandomSampler(part, generator=generator)
    batches = BatchSampler(order, batch_size, drop_last=False)
    # A generator of its own for the seeds of workers: looking at data must not move the random state of the model.
    return DataLoader(part, sampler=batches, batch_size=None, pin_memory=pin_memory, generator=torch.Generator())
