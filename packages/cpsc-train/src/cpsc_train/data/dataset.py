"""The small interface behind which every data set stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import Choice
from cpsc_train.config.choice import unknown
from cpsc_train.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What is known of a modality before any sample is read.

    Parameters
    ----------
    kind
        What the values mean: an image shares one scale over its pixels, a vector has one scale a feature, and a text
        holds token numbers, which have no scale; 0 is padding.
    shape
        Shape of one sample: an image is (channels, height, width), or (frames, channels, height, width); a text is
        (tokens,).
    bounds
        Smallest and largest valid value; noise is clipped to them. ``None`` where values have no bounds.
    mean, deviation
        Known statistics, one number or one a channel; fitted on the training rows where absent.
    vocabulary
        Number of distinct tokens of a text.
    """

    kind: Literal["image", "vector", "text"]
    shape: tuple[int, ...]
    bounds: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    vocabulary: int | None = None


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
    parts: Mapping[str, NDArray[np.int64]] | None = None
    """Rows of ``train``, ``test`` and perhaps ``validation`` in the official division, where the data set has one."""

    @abstractmethod
    def read(self, modality: str, rows: NDArray[np.int64], /) -> NDArray[Any]:
        """Return the samples at `rows` as ``(len(rows), *shape)`` float32, in the modality's own units.

        A text is int64. This is what is calibrated on, validated and tested: nothing about it is random.
        """

    def augmented(
        self, modality: str, rows: NDArray[np.int64], generators: Sequence[np.random.Generator], /
    ) -> NDArray[Any]:
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

    def __len__(self) -> int:
        return len(self.ids)


class DataConfig(Choice):
    """Options of a data set, and the way to open it."""

    modalities: tuple[str, ...]

    def open(self) -> Dataset:
        """Open the data set.

        Raises
        ------
        UserError
            If a file is missing or holds bad data; names the file and the row.
        """
        raise NotImplementedError


def check_modalities(got: Sequence[str], known: Sequence[str], *, least: int = 2) -> None:
    """Refuse a choice of modalities that is too small, repeats one, or names one that the data set lacks."""
    for name in got:
        if name not in known:
            raise UserError(unknown("modality", name, list(known)))
    if len(set(got)) < max(least, len(got)):
        raise UserError(f"modalities must be {least} to {len(known)} different views, got {','.join(got)!r}")
