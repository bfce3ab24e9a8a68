"""Corruption of training data: noise on a fraction of the inputs, wrong labels, and augmentation by noise."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.noise import Noise
from cpsc_train.data.splits import Splits
from cpsc_train.data.strings import crc32
from cpsc_train.errors import UserError

SHARE = 0.3
"""Fraction of the rows that an augmentation corrupts by default."""


@dataclass(frozen=True, kw_only=True)
class CorruptionConfig:
    """Corruption of training, calibration and validation rows; test rows are unchanged.

    Every draw depends on the seed and the sample id alone, so all methods see the same corrupted rows.
    """

    noise: tuple[Noise, ...] = ()
    """Noise on the inputs, each on its own fraction (``share``) of the rows."""
    labels: Literal["symmetric", "asymmetric"] = "symmetric"
    """``symmetric``: a wrong label is any other class with equal probability; ``asymmetric``: the next class."""
    label_share: float = 0.0
    """Probability that a row gets a wrong label."""
    parts: tuple[Literal["train", "calibration", "validation"], ...] = ("train", "calibration", "validation")
    """The corrupted parts: all of them for one bad source; ``train`` alone if calibration and validation rows were
    verified by hand."""
    seed: int = 0
    """Seed of the wrong labels; noise has its own."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_share < 1:
            raise UserError(f"corruption.label_share must lie in [0, 1), got {self.label_share}")
        if len(set(self.parts)) < len(self.parts):
            raise UserError(f"corruption.parts must be different, got {', '.join(self.parts)}")

    def noise_of(self, part: str) -> tuple[Noise, ...]:
        """Return the noise on the inputs of a part."""
        return self.noise if part in self.parts else ()

    def relabelled(self, dataset: Dataset, splits: Splits) -> Dataset:
        """Return a copy of the data set with wrong labels; the original is unchanged."""
        if not self.label_share:
            return dataset
        labels = dataset.labels.copy()
        for part in self.parts:
            rows = getattr(splits, part)
            labels[rows] = self.wrong(labels[rows], dataset.ids_of(rows), len(dataset.classes))
        relabelled = copy.copy(dataset)
        relabelled.labels = labels
        return relabelled

    def wrong(self, labels: NDArray[np.int64], ids: Sequence[str], classes: int) -> NDArray[np.int64]:
        """Return labels (n,) of which about the fraction `label_share` is replaced by another of the `classes`.

        Examples
        --------
        >>> CorruptionConfig(labels="asymmetric", label_share=0.5).wrong(np.array([0, 1, 2, 2]), list("abcd"), 3)
        array([1, 1, 0, 0])
        """
        wrong = labels.copy()
        for place, sample in enumerate(ids):
            generator = np.random.default_rng([self.seed, crc32("label"), crc32(sample)])
            if generator.random() < self.label_share:
                step = 1 if self.labels == "asymmetric" else int(generator.integers(1, classes))
                wrong[place] = (labels[place] + step) % classes
        return wrong


def augmentation(text: str) -> tuple[Noise, ...]:
    """Parse noise for augmentation: a sweep as `Noise.sweep` reads it, or one followed by ``-of-SHARE``.

    Raises UserError for another form, kind, severity or fraction.

    Examples
    --------
    >>> [noise.name for noise in (*augmentation("pix:gaussian:0.5"), *augmentation("fou:dropout:0.2,0.4-of-0.1"))]
    ['pix-gaussian-0.5-of-0.3', 'fou-dropout-0.2-of-0.1', 'fou-dropout-0.4-of-0.1']
    """
    sweep, of, share = text.partition("-of-")
    try:
        value = float(share) if of else SHARE
    except ValueError:
        raise UserError(
            f"the share of an augmentation must be a number, such as {sweep}-of-{SHARE}, got {text!r}"
        ) from None
    return tuple(replace(noise, share=value) for noise in Noise.sweep(sweep))
