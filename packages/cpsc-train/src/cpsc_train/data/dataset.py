"""The small interface behind which every data set stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import Choice, unknown
from cpsc_train.data.faults import read_skip_list
from cpsc_train.errors import DataError, UserError

if TYPE_CHECKING:
    from cpsc_train.data.storage.files import Place

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Spectrum:
    """A log spectrogram that the model computes where it runs, from a waveform.

    Parameters
    ----------
    n_fft, hop
        Samples of a window, and between two.
    """

    n_fft: int
    hop: int


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What is known of a modality before any sample is read.

    Parameters
    ----------
    kind
        What the values mean: an image shares one scale over its pixels, a vector has one scale a feature, and a text
        holds token numbers, which have no scale; 0 is padding. Sound is read as a waveform in [−1, 1], and shown to
        the model as an image, its spectrogram.
    shape
        Shape of one sample as the encoder sees it: an image is (channels, height, width), or (frames, channels, height,
        width); a text is (tokens,).
    bounds
        Smallest and largest valid value; noise is clipped to them. ``None`` where values have no bounds.
    mean, deviation
        Known statistics, one number or one a channel; fitted on the training rows where absent.
    vocabulary
        Number of distinct tokens of a text.
    spectrum
        Of sound that leaves the loader as a waveform (samples,): what the model computes of it before its encoder.
    """

    kind: Literal["image", "vector", "text", "sound"]
    shape: tuple[int, ...]
    bounds: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    vocabulary: int | None = None
    spectrum: Spectrum | None = None


class Dataset(ABC):
    """Labelled samples with several modalities.

    An adapter sets the four attributes and implements `read`; splits, standardisation, noise and batching are written
    once, elsewhere.
    """

    classes: Sequence[str]
    """C class names; a label is an index into them."""
    ids: Sequence[str]
    """N unique sample names."""
    labels: NDArray[np.int64]
    """(N,) in [0, C)."""
    modalities: dict[str, Modality]
    """The modalities in use, in order."""
    dropped: Sequence[str] = ()
    """Rows of the data set's own lists that are no sample here, each by name with its place; told to the user."""
    faults: Mapping[str, DataError] = MappingProxyType({})
    """What cannot be used, by sample or line; those samples are not among the rows."""
    notes: Sequence[DataError] = ()
    """What was read all the same, but a person should know."""
    parts: Mapping[str, Rows] | None = None
    """Rows of ``train``, ``test`` and perhaps ``validation`` in the official division, where the data set has one."""
    groups: Sequence[str] | None = None
    """Who each sample is of, such as its speaker, where that is known."""

    @abstractmethod
    def read(self, modality: str, rows: Rows, /) -> NDArray[Any]:
        """Return the samples at `rows` as ``(len(rows), *shape)`` float32, in the modality's own units.

        Sound may be waveforms (len(rows), samples), and text strings (len(rows),) of dtype object: noise is applied to
        what this returns, and `inputs` makes of it what the model is given. It is what is calibrated on, validated and
        tested: nothing about it is random.
        """

    def augmented(self, modality: str, rows: Rows, generators: Sequence[np.random.Generator], /) -> NDArray[Any]:
        """Return the samples at `rows` as training sees them; as `read` does, unless an adapter says otherwise.

        Parameters
        ----------
        modality, rows
            As in `read`.
        generators
            One source of randomness a row. Every modality of a sample is given the same state, so that the same draws
            give the same crop to all of them; an adapter whose modalities are not aligned mixes in the modality.
        """
        return self.read(modality, rows)

    def inputs(self, modality: str, values: NDArray[Any], /) -> NDArray[Any]:
        """Return what the model is given of what `read` or `augmented` returned, ``(n, *shape)``.

        The same values, unless an adapter says otherwise: of a waveform its spectrogram, of a text its tokens.
        """
        return values

    def sources(self, row: int, /) -> Mapping[str, Place]:
        """Return the files that a sample is read from, each by an ending that tells what it is; none, where unknown."""
        return {}

    def examine(self, row: int, /) -> Iterable[DataError]:
        """Return what else is wrong with a sample that can be read; asked by ``cpsc data check``."""
        return ()

    def __len__(self) -> int:
        return len(self.ids)


class Kept(Dataset):
    """Some rows of a data set.

    Parameters
    ----------
    dataset, rows
        Which of what.
    dropped
        What is left out, and why, beside what the data set itself leaves out.
    """

    def __init__(self, dataset: Dataset, rows: Rows, dropped: Sequence[str]) -> None:
        self.whole, self._rows = dataset, rows
        self.classes, self.modalities, self.notes = dataset.classes, dataset.modalities, dataset.notes
        self.ids = [dataset.ids[row] for row in rows]
        self.labels = dataset.labels[rows]
        self.dropped = (*dataset.dropped, *dropped)
        self.groups = None if dataset.groups is None else [dataset.groups[row] for row in rows]
        if dataset.parts is not None:
            self.parts = {part: np.flatnonzero(np.isin(rows, held)) for part, held in dataset.parts.items()}

    def read(self, modality: str, rows: Rows, /) -> NDArray[Any]:
        """Return the samples at `rows`."""
        return self.whole.read(modality, self._rows[rows])

    def augmented(self, modality: str, rows: Rows, generators: Sequence[np.random.Generator], /) -> NDArray[Any]:
        """Return the samples at `rows` as training sees them."""
        return self.whole.augmented(modality, self._rows[rows], generators)

    def inputs(self, modality: str, values: NDArray[Any], /) -> NDArray[Any]:
        """Return what the model is given."""
        return self.whole.inputs(modality, values)

    def sources(self, row: int, /) -> Mapping[str, Place]:
        """Return the files of a sample."""
        return self.whole.sources(int(self._rows[row]))


def whole_of(dataset: Dataset) -> Dataset:
    """Return the data set that some rows were kept of, or the data set itself."""
    return dataset.whole if isinstance(dataset, Kept) else dataset


@dataclass(frozen=True, kw_only=True)
class DataConfig(Choice, plugins="cpsc_train.datasets"):
    """Options of a data set, and the way to open it."""

    modalities: tuple[str, ...]
    skip: str | None = None
    """A list of samples and lines to leave out, such as ``cpsc data check NAME --skip-list FILE`` writes."""

    def load(self) -> Dataset:
        """Read the lists, and whatever is not read sample by sample.

        What can be used is in the data set, and what cannot in its `faults`.

        Raises
        ------
        UserError
            If nothing can be done without what is missing.
        """
        raise NotImplementedError

    def open(self) -> Dataset:
        """Load the data set, without what the skip list names.

        Raises
        ------
        UserError
            If a file is missing or holds bad data; names the file and the row, and how many there are.
        """
        dataset = self.load()
        skip = {} if self.skip is None else read_skip_list(Path(self.skip))
        rows = {sample: row for row, sample in enumerate(dataset.ids)}
        if len(rows) < len(dataset.ids):
            twice = next(sample for row, sample in enumerate(dataset.ids) if rows[sample] != row)
            raise UserError(f"{self.name}: sample ids must be different, got {twice!r} more than once")
        for place in skip:
            if place not in rows and place not in dataset.faults:
                raise UserError(
                    f"{self.skip}: {place!r} is no sample and no fault of {self.name}: check the data again"
                )
        left = [str(error) for place, error in dataset.faults.items() if place not in skip]
        if left:
            more = f", the first of {len(left)} faults" if len(left) > 1 else ""
            where = f" --root {self.root}" if hasattr(self, "root") else ""
            raise UserError(
                f"{left[0]}{more}; all of them, and a list to leave them out: cpsc data check {self.name}{where}"
            )
        if not skip:
            return dataset
        kept = np.array([row for sample, row in rows.items() if sample not in skip], dtype=np.int64)
        return Kept(dataset, kept, [f"{place} ({why})" for place, why in skip.items()])


def check_modalities(got: Sequence[str], known: Sequence[str], *, least: int = 2) -> None:
    """Refuse a choice of modalities that is too small, repeats one, or names one that the data set lacks."""
    for name in got:
        if name not in known:
            raise UserError(unknown("modality", name, list(known)))
    if len(set(got)) < max(least, len(got)):
        raise UserError(f"modalities must be {least} to {len(known)} different views, got {','.join(got)!r}")
