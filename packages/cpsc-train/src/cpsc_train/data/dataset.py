"""Interface of data sets and of their options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cpsc_train.config import Choice, unknown
from cpsc_train.data.faults import first_faults, read_skip_list
from cpsc_train.data.modality import Modality
from cpsc_train.data.readers.base import Reader
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import DataError, UserError

if TYPE_CHECKING:
    from cpsc_train.data.noise import Noise
    from cpsc_train.data.storage.files import Place

Rows = NDArray[np.int64]


class Dataset(ABC):
    """Labelled samples with several modalities.

    An adapter sets the first four attributes and implements `read`; splits, standardisation, noise and batches are
    shared by all data sets.
    """

    classes: Sequence[str]
    """C class names; a label is an index into them."""
    ids: Sequence[str]
    """N unique sample names. A `StringArray` takes a sixth of the memory of a list."""
    labels: NDArray[np.int64]
    """(N,) in [0, C)."""
    modalities: dict[str, Modality]
    """The modalities in use, in order."""
    dropped: Sequence[str] = ()
    """Rows of the data set's own lists that are left out on purpose, each by name and place; reported to the user."""
    faults: Mapping[str, DataError] = MappingProxyType({})
    """Errors by sample or line; those samples are not among the rows."""
    notes: Sequence[DataError] = ()
    """Irregularities that did not prevent reading."""
    parts: Mapping[str, Rows] | None = None
    """Rows of ``train``, ``test`` and optionally ``validation`` in the official division, if there is one."""
    groups: Sequence[str] | None = None
    """Group of each sample, such as its speaker, if known."""
    indivisible: bool = False
    """Whether all samples of a group belong in one part of a division that is drawn."""
    pretrained: bool = False
    """Whether encoders that are not named are those of the extra ``pretrained``, where there is one for the kind."""
    labels_by_modality: Mapping[str, NDArray[np.int64]] = MappingProxyType({})
    """Labels (N,) given for a single modality, −1 if there is none; for studies, not for training."""
    presence: Mapping[str, NDArray[np.bool_]] = MappingProxyType({})
    """By incomplete modality in use, true for samples that have it, (N,); the others are never read."""

    @abstractmethod
    def read(self, modality: str, rows: Rows, /) -> NDArray[Any]:
        """Return the samples at `rows` as ``(len(rows), *shape)`` float32, in the modality's own units.

        Sound may be waveforms (len(rows), samples), and text strings (len(rows),) of dtype object: noise is applied to
        what this returns, and `inputs` turns it into the model's input. Calibration, validation and test use it, so
        nothing about it is random.
        """

    def augmented(self, modality: str, rows: Rows, generators: Sequence[np.random.Generator], /) -> NDArray[Any]:
        """Return the samples at `rows` for training; by default as `read` does.

        Parameters
        ----------
        modality, rows
            As in `read`.
        generators
            One per row. Every modality of a sample gets a generator in the same state, so all of them are cropped
            alike; an adapter whose modalities are not aligned mixes in the modality.
        """
        return self.read(modality, rows)

    def inputs(self, modality: str, values: NDArray[Any], /) -> NDArray[Any]:
        """Return the model's input ``(n, *shape)`` for what `read` or `augmented` returned.

        By default the same values; an adapter may return the spectrogram of a waveform or the tokens of a text.
        """
        return values

    def corrupted(self, modality: str, noise: Noise, rows: Rows, /) -> NDArray[Any] | None:
        """Return the model's input of `rows` after `noise`, ``(len(rows), *shape)``, if it is stored.

        None, the default, means that noise of this kind and severity is not stored. A data set of features stores what
        its encoder returned for corrupted inputs. With no rows, an empty array or None tells whether it is stored.

        Raises
        ------
        UserError
            If the corruption is stored, but not for all of the rows.
        """
        return None

    def stored(self, modality: str, /) -> Sequence[str]:
        """Return the stored corruptions of a modality, such as ``blur-0.03``. If there are any, none is computed."""
        return ()

    def sources(self, row: int, /) -> Mapping[str, Place]:
        """Return the files of a sample by an ending that describes them; empty if unknown."""
        return {}

    def examine(self, row: int, /) -> Iterable[DataError]:
        """Return further errors of a sample that can be read, for ``cpsc data check``."""
        return ()

    def ids_of(self, rows: Rows) -> StringArray:
        """Return the ids of some rows."""
        ids = self.ids
        return ids.take(rows) if isinstance(ids, StringArray) else StringArray.of(ids[row] for row in rows)

    def __len__(self) -> int:
        return len(self.ids)


class Kept(Dataset):
    """A data set without the rows in a skip list.

    - `dataset` and `rows`: the data set, and the rows kept.
    - `dropped`: what the skip list names, with the reasons.
    """

    def __init__(self, dataset: Dataset, rows: Rows, dropped: Sequence[str]) -> None:
        self.dataset, self._rows = dataset, rows
        self.classes, self.modalities, self.notes = dataset.classes, dataset.modalities, dataset.notes
        self.ids = dataset.ids_of(rows)
        self.labels = dataset.labels[rows]
        self.dropped = (*dataset.dropped, *dropped)
        self.groups = None if dataset.groups is None else [dataset.groups[row] for row in rows]
        self.indivisible, self.pretrained = dataset.indivisible, dataset.pretrained
        self.presence = {name: mask[rows] for name, mask in dataset.presence.items()}
        self.labels_by_modality = {name: labels[rows] for name, labels in dataset.labels_by_modality.items()}
        if dataset.parts is not None:
            self.parts = {name: np.flatnonzero(np.isin(rows, part)) for name, part in dataset.parts.items()}

    def read(self, modality: str, rows: Rows, /) -> NDArray[Any]:
        return self.dataset.read(modality, self._rows[rows])

    def augmented(self, modality: str, rows: Rows, generators: Sequence[np.random.Generator], /) -> NDArray[Any]:
        """Return the samples at `rows` for training."""
        return self.dataset.augmented(modality, self._rows[rows], generators)

    def inputs(self, modality: str, values: NDArray[Any], /) -> NDArray[Any]:
        return self.dataset.inputs(modality, values)

    def corrupted(self, modality: str, noise: Noise, rows: Rows, /) -> NDArray[Any] | None:
        """Return the stored corruption of the model's input."""
        return self.dataset.corrupted(modality, noise, self._rows[rows])

    def stored(self, modality: str, /) -> Sequence[str]:
        """Return the stored corruptions of a modality."""
        return self.dataset.stored(modality)

    def sources(self, row: int, /) -> Mapping[str, Place]:
        return self.dataset.sources(int(self._rows[row]))


def unfiltered(dataset: Dataset) -> Dataset:
    """Return a data set without the effect of a skip list."""
    return dataset.dataset if isinstance(dataset, Kept) else dataset


@dataclass(frozen=True, kw_only=True)
class DataConfig(Choice, plugins="cpsc_train.datasets"):
    """Options of a data set."""

    detects: ClassVar[bool] = False
    """Whether ``modalities`` may be empty, which means all that the files hold."""
    licence: ClassVar[str] = ""
    """Licence of the data, as their authors state it; empty if unknown."""

    modalities: tuple[str, ...]
    skip: str | None = None
    """A list of samples and lines to leave out, as written by ``cpsc data check NAME --skip-list FILE``."""

    def load(self) -> Dataset:
        """Read the lists, and whatever is not read sample by sample; what cannot be used becomes a fault.

        Raises
        ------
        UserError
            If something is missing without which nothing can be read.
        """
        raise NotImplementedError

    def readers(self, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        """Return the readers of samples that need not belong to the data set, such as those to predict.

        By default, they accept the model's input as an array. `modalities` are those of the data set that was loaded.
        """
        return {name: Reader(modality) for name, modality in modalities.items()}

    @property
    def complete(self) -> bool:
        """Whether `settled` would return the same options."""
        return bool(self.modalities)

    def settled(self, dataset: Dataset) -> Self:
        """Return these options with what was detected when `dataset` was opened; by default its modalities."""
        return replace(self, modalities=tuple(dataset.modalities))

    def open(self) -> Dataset:
        """Load the data set, without the samples and faults in the skip list.

        Raises
        ------
        UserError
            If a file is missing or holds bad data; names the file and the row, and the number of faults.
        """
        dataset = self.load()
        check_names(dataset.modalities)
        skip = {} if self.skip is None else read_skip_list(Path(self.skip))
        ids = StringArray.of(dataset.ids)
        if (twice := ids.repeated()) is not None:
            raise UserError(f"{self.name}: sample ids must be different, got {twice!r} more than once")
        rows = ids.find(StringArray.of(skip))
        for place, row in zip(skip, rows, strict=True):
            if row < 0 and place not in dataset.faults:
                raise UserError(
                    f"{self.skip}: {place!r} is neither a sample nor a fault of {self.name}: check the data again"
                )
        left = [error for place, error in dataset.faults.items() if place not in skip]
        if left:
            where = f" --root {self.root}" if hasattr(self, "root") else ""
            raise UserError(
                f"{first_faults(left)}; all of them, and a list to leave them out: cpsc data check {self.name}{where}"
            )
        if not skip:
            return dataset
        kept = np.delete(np.arange(len(ids)), rows[rows >= 0])
        return Kept(dataset, kept, [f"{place} ({why})" for place, why in skip.items()])


def check_names(names: Iterable[str]) -> None:
    """Refuse names that a model cannot use for a modality, or that would be mistaken for the fused head."""
    taken = nn.ModuleDict()
    for name in names:
        if not name.strip() or not name.isprintable() or "." in name or name == "fused" or hasattr(taken, name):
            raise UserError(
                f"a modality cannot be called {name!r}: rename it (no dots, no name of PyTorch or of the fused head)"
            )


def check_modalities(names: Sequence[str], known: Sequence[str]) -> None:
    """Check that at least two modalities are chosen, each known and none twice."""
    for name in names:
        if name not in known:
            raise UserError(unknown("modality", name, list(known)))
    if len(set(names)) < max(2, len(names)):
        raise UserError(f"modalities must be 2 to {len(known)} different views, got {','.join(names)!r}")
