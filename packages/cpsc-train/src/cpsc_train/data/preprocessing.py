"""Standardisation by known statistics, or by those of the training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.media.sound import log_spectrogram
from cpsc_train.data.modality import Modality

Values = NDArray[np.float32]
MOST = 2**26
"""Largest number of values of one modality on which statistics are fitted."""


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a modality: one number for an image, one per feature for a vector."""

    mean: Values
    std: Values

    def __call__(self, values: Values) -> Values:
        """Return the standardised values."""
        return (values - self.mean) / self.std


class Preprocessing:
    """Standardisation of each modality.

    Parameters
    ----------
    dataset
        Source of the training rows.
    rows
        (n,) training rows; of a modality with more than `MOST` values in all, evenly spaced ones. Only rows that have
        the modality are used.
    """

    def __init__(self, dataset: Dataset, rows: NDArray[np.int64]) -> None:
        having = {
            name: rows[dataset.presence[name][rows]] if name in dataset.presence else rows
            for name in dataset.modalities
        }
        self.scales = {
            name: _known(modality) or _fit(modality, _inputs(dataset, name, _some(having[name], modality)))
            for name, modality in dataset.modalities.items()
        }
        self._modalities = dataset.modalities
        blank = {
            name: self(name, dataset.inputs(name, dataset.read(name, having[name][:1]))) for name in dataset.presence
        }
        self.shapes = {name: sample.shape[1:] for name, sample in blank.items()}
        """Shape of a sample at the model's input, of each modality that some samples lack."""
        self.dtypes = {name: sample.dtype for name, sample in blank.items()}
        """Data type of the same."""

    def __call__(self, modality: str, values: NDArray[Any]) -> NDArray[Any]:
        """Standardise (n, *shape) `values`; texts, and waveforms whose spectrum the model computes, are unchanged."""
        return standardised(values, self._modalities[modality], self.scales[modality])


def standardised(values: NDArray[Any], modality: Modality, scale: Scale) -> NDArray[Any]:
    """Return standardised inputs (n, *shape); texts, and waveforms whose spectrum the model computes, are unchanged."""
    return values if modality.spectrum is not None else scale(values)


def scales_state(scales: Mapping[str, Scale]) -> dict[str, list[Values] | None]:
    """Return mean and standard deviation by modality, None for one without a scale, as `scales_of` reads them."""
    return {
        m: None if isinstance(one, Unscaled) else [np.array(one.mean), np.array(one.std)] for m, one in scales.items()
    }


def scales_of(state: Mapping[str, Sequence[Values] | None]) -> dict[str, Scale]:
    """Return the scales that `scales_state` was called on."""
    return {m: Unscaled() if one is None else Scale(*one) for m, one in state.items()}


class Unscaled(Scale):
    """Scale of a modality without one."""

    def __init__(self) -> None:
        super().__init__(np.zeros((), np.float32), np.ones((), np.float32))

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values unchanged."""
        return values


def _known(modality: Modality) -> Scale | None:
    if modality.kind == "text":
        return Unscaled()
    if modality.mean is None or modality.std is None:
        return None
    shape = (-1,) if modality.kind == "vector" else (-1, 1, 1)
    return Scale(*(np.asarray(x, np.float32).reshape(shape) for x in (modality.mean, modality.std)))


def _some(rows: NDArray[np.int64], modality: Modality) -> NDArray[np.int64]:
    most = max(1, MOST // int(np.prod(modality.shape)))
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _inputs(dataset: Dataset, name: str, rows: NDArray[np.int64]) -> Values:
    values = dataset.inputs(name, dataset.read(name, rows))
    spectrum = dataset.modalities[name].spectrum
    return values if spectrum is None else log_spectrogram(values, n_fft=spectrum.n_fft, hop=spectrum.hop)


def _fit(modality: Modality, values: Values) -> Scale:
    """Fit the scale of one modality; a feature that never varies has the standard deviation 1."""
    axes = (0,) if modality.kind == "vector" else tuple(range(values.ndim))
    precise = values.astype(np.float64)
    std = precise.std(axis=axes)
    return Scale(precise.mean(axis=axes).astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32))
