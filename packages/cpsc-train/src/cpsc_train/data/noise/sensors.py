"""Corruption of recordings by a sensor with several axes; the first dimension besides that of the axes is time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.modality import Modality
from cpsc_train.data.noise.base import Corruption
from cpsc_train.data.preprocessing import Scale

Values = NDArray[np.float32]


def _dead_axis(x: Values, severity: float, generator: np.random.Generator, modality: Modality, _scale: Scale) -> Values:
    axes = _axes_first(x, modality)
    dead = generator.permutation(len(axes))[: max(1, round(severity * len(axes)))]
    broken = axes.copy()
    broken[dead] = 0
    return np.moveaxis(broken, 0, modality.axis or 0)


def _drift(x: Values, severity: float, generator: np.random.Generator, modality: Modality, scale: Scale) -> Values:
    """Add a random walk to each axis, whose standard deviation at the end is `severity` times that of the axis."""
    axes = _axes_first(x, modality)
    steps = generator.standard_normal(axes.shape[:2], dtype=np.float32)
    walk = np.cumsum(steps, 1) / np.float32(np.sqrt(axes.shape[1]))
    drift = np.float32(severity) * _deviations(x, modality, scale)[:, None] * walk
    moved = axes + drift.reshape(*drift.shape, *(1,) * (axes.ndim - 2))
    return np.moveaxis(moved, 0, modality.axis or 0).astype(np.float32)


def _axes_first(x: Values, modality: Modality) -> Values:
    """Return a recording as (axes, time, …)."""
    return np.moveaxis(x, modality.axis or 0, 0)


def _deviations(x: Values, modality: Modality, scale: Scale) -> Values:
    """Return the standard deviation of each axis over training rows and time, (axes,)."""
    mean, deviation = (
        _axes_first(np.broadcast_to(values, x.shape), modality).reshape(x.shape[modality.axis or 0], -1)
        for values in (scale.mean, scale.deviation)
    )
    return np.asarray(np.sqrt(np.square(deviation).mean(1) + mean.var(1)), dtype=np.float32)


DEAD_AXIS = Corruption(
    name="dead-axis",
    target="sensor",
    corrupt=_dead_axis,
    summary="random axes are set to zero",
    severity="fraction of the axes, at least one",
    levels=(0.15, 0.3, 0.5, 0.7, 0.85),
)
DRIFT = Corruption(
    name="drift",
    target="sensor",
    corrupt=_drift,
    summary="a random walk is added to each axis",
    severity="standard deviation of the walk at the end, as a multiple of that of the axis",
    levels=(0.5, 1.0, 2.0, 3.0, 5.0),
    within=(0.0, np.inf),
)
