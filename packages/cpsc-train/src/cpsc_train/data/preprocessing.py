"""Standardisation, fitted on the training rows only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset, Modality

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a modality: one number for an image, one a feature for a vector."""

    mean: Values
    deviation: Values

    def __call__(self, values: Values) -> Values:
        """Return the standardised values."""
        return (values - self.mean) / self.deviation


class Preprocessing:
    """Standardises each modality.

    Parameters
    ----------
    dataset
        Where the training rows are read from.
    rows
        (n,) training rows.
    """

    def __init__(self, dataset: Dataset, rows: NDArray[np.int64]) -> None:
        self.scales = {name: _fit(modality, dataset.read(name, rows)) for name, modality in dataset.modalities.items()}

    def __call__(self, modality: str, values: Values) -> Values:
        """Standardise (n, *shape) `values` of `modality`."""
        return self.scales[modality](values)


def _fit(modality: Modality, values: Values) -> Scale:
    """Fit one modality; a feature that never varies keeps its unit, since its deviation of zero divides nothing."""
    axes = tuple(range(values.ndim)) if modality.kind == "image" else (0,)
    precise = values.astype(np.float64)
    deviation = precise.std(axis=axes)
    return Scale(precise.mean(axis=axes).astype(np.float32), np.where(deviation > 0, deviation, 1.0).astype(np.float32))
