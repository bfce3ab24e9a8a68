"""Feature checks and precision shared by novelty scores."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace
from conformal_core._convert import as_floating
from conformal_core.checks import check_finite, is_checked

Array = Any


def as_features(features: Array, width: int | None, like: Array | None, *, check: bool | None) -> tuple[Array, Any]:
    """Return features (..., d) of the training width, and their namespace, or raise."""
    features = as_floating("features", features, like)
    xp = array_namespace(features=features)
    if features.ndim == 0 or features.shape[-1] == 0 or width not in {None, features.shape[-1]}:
        wanted = "d" if width is None else width
        raise ValueError(f"features must have shape (..., {wanted}), got {tuple(features.shape)}")
    if is_checked(features, check):
        check_finite("features", features, xp)
    return features, xp


def as_rows(features: Array, xp: Any) -> Array:
    """Return features (..., d) as rows (N, d) in float64, as sums over many rows need."""
    rows = math.prod(features.shape[:-1])
    return xp.astype(xp.reshape(features, (rows, features.shape[-1])), xp.float64, copy=False)


def quietly(features: Array) -> AbstractContextManager[Any]:
    """Silence numpy's overflow warnings: distances beyond the largest number are infinite."""
    return np.errstate(over="ignore", invalid="ignore") if isinstance(features, np.ndarray) else nullcontext()


def slices(count: int, step: int) -> list[slice]:
    """Cut 0..count into slices of `step` and a rest; at least one, which may be empty."""
    return [slice(start, min(start + step, count)) for start in range(0, max(1, count), step)]


def at_least_single(features: Array, xp: Any) -> Array:
    """Return half-precision features in single precision, as distances need."""
    wide = xp.isdtype(features.dtype, (xp.float32, xp.float64))
    return features if wide else xp.astype(features, xp.float32)
