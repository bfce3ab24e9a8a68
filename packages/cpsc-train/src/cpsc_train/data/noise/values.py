"""Corruption of single values of any model input: images, spectrograms, vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.modality import Modality
from cpsc_train.data.noise.base import Corruption
from cpsc_train.data.preprocessing import Scale

Values = NDArray[np.float32]


def set_to_ends(x: Values, fraction: float, ends: tuple[float, float], generator: np.random.Generator) -> Values:
    """Set a fraction of the values to one of two ends, each with the same probability."""
    draw = generator.random(x.shape, dtype=np.float32)
    return np.where(draw < fraction / 2, ends[0], np.where(draw < fraction, ends[1], x)).astype(np.float32)


def _gaussian(x: Values, severity: float, generator: np.random.Generator, modality: Modality, scale: Scale) -> Values:
    bounds = modality.bounds
    unit = scale.deviation if bounds is None else np.float32(bounds[1] - bounds[0])
    return x + np.float32(severity) * unit * generator.standard_normal(x.shape, dtype=np.float32)


def _salt_and_pepper(
    x: Values, severity: float, generator: np.random.Generator, modality: Modality, _scale: Scale
) -> Values:
    return set_to_ends(x, severity, modality.bounds or (0.0, 0.0), generator)


def _dropout(x: Values, severity: float, generator: np.random.Generator, modality: Modality, scale: Scale) -> Values:
    lost = generator.random(x.shape, dtype=np.float32) < severity
    blank = scale.mean if modality.bounds is None else np.float32(modality.bounds[0])
    return np.where(lost, blank, x).astype(np.float32)


GAUSSIAN = Corruption(
    name="gaussian",
    target="values",
    corrupt=_gaussian,
    summary="normal noise is added",
    severity="σ, as a multiple of the valid range or, without one, of each feature's standard deviation",
    levels=(0.08, 0.12, 0.18, 0.26, 0.38),
    unbounded=(0.5, 1.0, 1.5, 2.0, 3.0),
    within=(0.0, np.inf),
)
SALT_AND_PEPPER = Corruption(
    name="salt-and-pepper",
    target="values",
    corrupt=_salt_and_pepper,
    summary="values are set to the smallest or largest valid one",
    severity="fraction of the values",
    levels=(0.03, 0.06, 0.09, 0.17, 0.27),
    needs_bounds=True,
)
DROPOUT = Corruption(
    name="dropout",
    target="values",
    corrupt=_dropout,
    summary="values become black or, without a valid range, each feature's training mean; 1 is a dead sensor",
    severity="fraction of the values",
    levels=(0.1, 0.3, 0.5, 0.7, 0.9),
)
