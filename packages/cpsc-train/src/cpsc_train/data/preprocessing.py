"""Standardisation by known statistics, or by those of the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset, Modality

Values = NDArray[np.float32]
MOST = 2**26
"""Values of one modality that statistics are fitted on, at most."""


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
        (n,) training rows; of a modality whose values would not fit into memory together, evenly spaced ones, with
        `MOST` values in all.
    """

    def __init__(self, dataset: Dataset, rows: NDArray[np.int64]) -> None:
        self.scales = {
            name: _known(modality) or _fit(modality, dataset.read(name, _some(rows, modality)))
            for name, modality in dataset.modalities.items()
        }

    def __call__(self, modality: str, values: NDArray[Any]) -> NDArray[Any]:
        """Standardise (n, *shape) `values` of `modality`; a text passes as it is."""
        return self.scales[modality](values)


class Unscaled(Scale):
    """The scale of what has none."""

    def __init__(self) -> None:
        super().__init__(np.zeros((), np.float32), np.ones((), np.float32))

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values."""
        return values


def _known(modality: Modality) -> Scale | None:
    if modality.kind == "text":
        return Unscaled()
    if modality.mean is None or modality.deviation is None:
        return None
    shape = (-1, 1, 1) if modality.kind == "image" else (-1,)
    return Scale(*(np.asarray(x, np.float32).reshape(shape) for x in (modality.mean, modality.deviation)))


def _some(rows: NDArray[np.int64], modality: Modality) -> NDArray[np.int64]:
    most = max(1, MOST // int(np.prod(modality.shape)))
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _fit(modality: Modality, values: Values) -> Scale:
    """Fit one modality; a feature that never varies keeps its unit, since its deviation of zero divides nothing."""
    axes = tuple(range(values.ndim)) if modality.kind == "image" else (0,)
    precise = values.astype(np.float64)
    deviation = precise.std(axis=axes)
    return Scale(precise.mean(axis=axes).astype(np.float32), np.where(deviation > 0, deviation, 1.0).astype(np.float32))
