"""The small interface behind which every data set stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
        What the values mean: an image shares one scale over its pixels, a vector has one scale a feature.
    shape
        Shape of one sample; an image is (channels, height, width).
    bounds
        Smallest and largest valid value; noise is clipped to them. ``None`` where values have no bounds.
    """

    kind: Literal["image", "vector"]
    shape: tuple[int, ...]
    bounds: tuple[float, float] | None = None


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

    @abstractmethod
    def read(self, modality: str, rows: NDArray[np.int64], /) -> NDArray[np.float32]:
        """Return the samples at `rows` as ``(len(rows), *shape)`` float32, in the modality's own units."""

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
