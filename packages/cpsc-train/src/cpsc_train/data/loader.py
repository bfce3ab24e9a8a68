"""Batches of a part of the data, read in this process or by workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from cpsc_train.data.batch import Batch
from cpsc_train.data.dataset import Dataset, unfiltered
from cpsc_train.data.families.stored import Stored
from cpsc_train.data.noise import Noise
from cpsc_train.data.order import Draw
from cpsc_train.data.prefetch import Prefetched
from cpsc_train.data.preprocessing import Preprocessing
from cpsc_train.data.strings import crc32
from cpsc_train.errors import UserError


@dataclass(frozen=True)
class _Generators(Sequence[np.random.Generator]):
    """The random generator of each sample, made when it is used: data in memory may need none."""

    seed: tuple[int, int]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int, /) -> np.random.Generator: ...
    @overload
    def __getitem__(self, place: slice, /) -> _Generators: ...
    def __getitem__(self, place: int | slice, /) -> np.random.Generator | _Generators:
        if isinstance(place, slice):
            return _Generators(self.seed, self.ids[place])
        return np.random.default_rng([*self.seed, crc32(self.ids[place])])


@dataclass(frozen=True)
class _Part:
    dataset: Dataset
    rows: NDArray[np.int64]
    preprocessing: Preprocessing
    noise: Sequence[Noise]
    augment: Sequence[Noise]
    modalities: Sequence[str]

    def read(self, draw: Draw) -> Batch | UserError:
        """Return the batch of a draw; an error is returned, since it may cross processes."""
        rows = self.rows[draw.positions]
        ids = tuple(self.dataset.ids[row] for row in rows)
        try:
            inputs = {name: self._read(name, rows, ids, draw.seed) for name in self.modalities}
            present = {name: torch.from_numpy(mask[rows]) for name, mask in self.dataset.presence.items()}
            labels, positions = (torch.from_numpy(x) for x in (self.dataset.labels[rows], draw.positions))
            return Batch(ids, labels, inputs, positions, present)
        except UserError as error:
            return error
        except OSError as error:
            place = error.filename or f"one of the samples {', '.join(ids)}"
            return UserError(f"{place}: cannot be read ({error.strerror or error})")

    def _read(self, name: str, rows: NDArray[np.int64], ids: tuple[str, ...], seed: tuple[int, int] | None) -> Tensor:
        """Return the input of a modality; zeros for samples that lack it, which are not read."""
        mask = self.dataset.presence.get(name)
        if mask is None or mask[rows].all():
            return torch.from_numpy(self._values(name, rows, ids, seed))
        inputs = np.zeros((len(rows), *self.preprocessing.shapes[name]), self.preprocessing.dtypes[name])
        if (places := np.flatnonzero(mask[rows])).size:
            inputs[places] = self._values(name, rows[places], tuple(ids[place] for place in places), seed)
        return torch.from_numpy(inputs)

    def _values(
        self, name: str, rows: NDArray[np.int64], ids: tuple[str, ...], seed: tuple[int, int] | None
    ) -> NDArray[Any]:
        if seed is None:
            values = self.dataset.read(name, rows)
        else:
            values = self.dataset.augmented(name, rows, _Generators(seed, ids))
        noises = [noise for noise in self._noises(seed) if noise.modality == name]
        stored = [noise for noise in noises if noise.stored_by(self.dataset)]
        computed = [noise for noise in noises if noise not in stored]
        modality = self.dataset.modalities[name]
        for noise in computed:
            values = noise.of_samples(values, ids, modality)
        values = self._stored(name, stored, self.dataset.inputs(name, values), rows, ids)
        for noise in computed:
            values = noise.of_inputs(values, ids, modality, self.preprocessing.scales[name])
        return self.preprocessing(name, values)

    def _noises(self, seed: tuple[int, int] | None) -> list[Noise]:
        """Return the fixed noise, then augmentation with the draw of this seed and epoch."""
        fresh = [] if seed is None else [one.redrawn(*seed, place) for place, one in enumerate(self.augment)]
        return [*self.noise, *fresh]

    def _stored(
        self,
        modality: str,
        noises: Sequence[Noise],
        values: NDArray[Any],
        rows: NDArray[np.int64],
        ids: tuple[str, ...],
    ) -> NDArray[Any]:
        """Return the model's input with the samples that `noises` hit replaced by stored ones."""
        fixed = [noise for noise in noises if noise in self.noise]
        if len(fixed) > 1:  # of augmentation, the last one that hits a sample is used
            names = " and ".join(noise.name for noise in fixed)
            raise UserError(f"{names}: stored corruptions of one modality cannot be combined")
        for noise in noises:
            hit = noise.hits(ids)
            values = values.copy()
            values[hit] = self.dataset.corrupted(modality, noise, rows[hit])
        return values


class Loader:
    """An iterable of `Batch`, read here or by worker processes.

    - `dataset`, `rows`, `preprocessing`: the data set, the rows to read, and the standardisation.
    - `order`: draws the rows of each batch.
    - `noise`: applied to each batch.
    - `augment`: applied to the batches of an order that draws augmentation, with a new draw each epoch.
    - `workers`: processes that read ahead; 0 reads here.
    - `pin_memory`: whether batches lie in page-locked memory, for a GPU.
    - `modalities`: the modalities to read. If None, all of them.

    Raises
    ------
    UserError
        During iteration, if a sample cannot be read; names its file.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: NDArray[np.int64],
        preprocessing: Preprocessing,
        order: Sampler[Draw],
        *,
        noise: Sequence[Noise] = (),
        augment: Sequence[Noise] = (),
        workers: int = 0,
        pin_memory: bool = False,
        modalities: Sequence[str] | None = None,
    ) -> None:
        names = tuple(dataset.modalities if modalities is None else modalities)
        self._batches = Prefetched(
            _Part(dataset, rows, preprocessing, noise, augment, names).read,
            order,
            workers=workers,
            decodes=isinstance(unfiltered(dataset), Stored),
            pin_memory=pin_memory,
        )

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            if isinstance(batch, UserError):
                raise batch
            yield batch
