"""Checks of rows of probabilities, in two passes over the data."""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace
from conformal_core.checks import check_finite, first_index, show_index

Array = Any

_IN_CACHE = 1 << 17  # elements that stay in the cache between two passes

# Rounding error allowed for the sum of a row, by dtype: the square root of the machine epsilon, and at least 1e-5.
_TOLERANCE = {"f": math.sqrt(float(np.finfo(np.float32).eps)), "d": 1e-5}


def is_distribution(probs: Array, *, normalized: bool) -> bool:
    """Whether rows are probabilities over the last axis; if not ``normalized``, they may have any finite sum.

    A row may miss the sum 1 by the rounding of its dtype: the square root of the machine epsilon, and at least 1e-5,
    because double-precision rows are often converted single-precision rows.
    """
    if isinstance(probs, np.ndarray):
        if probs.size > _IN_CACHE and probs.ndim > 1:
            rows, step = probs.reshape(-1, probs.shape[-1]), max(1, _IN_CACHE // probs.shape[-1])
            return all(is_distribution(rows[i : i + step], normalized=normalized) for i in range(0, len(rows), step))
        if probs.dtype.char in _TOLERANCE:
            # Row sums and the minimum see NaN, infinities, negative values and wrong sums in two passes. Comparisons
            # with NaN are false, so "all good" is tested rather than "none bad".
            sums = probs @ _ones(probs.shape[-1], probs.dtype.char)
            right = np.abs(sums - 1.0) <= _TOLERANCE[probs.dtype.char] if normalized else np.isfinite(sums)
            return not probs.size or (bool(right.all()) and bool(probs.min() >= 0.0))
    if math.prod(probs.shape) == 0:
        return True
    xp = array_namespace(probs=probs)
    sums = _row_sums(probs, xp)
    right = _near_one(sums, probs, xp) if normalized else xp.isfinite(sums)
    return bool(xp.all(right)) and bool(xp.min(probs) >= 0.0)


def is_distribution_row(row: np.ndarray[Any, Any], *, normalized: bool) -> bool:
    """Whether one row (K,) in float32 or float64 holds probabilities; see :func:`is_distribution`."""
    kind = row.dtype.char
    total = float(row.dot(_ones(row.size, kind)))
    right = abs(total - 1.0) <= _TOLERANCE[kind] if normalized else math.isfinite(total)
    return right and row.item(row.argmin()) >= 0.0  # argmin is faster than min


@lru_cache(maxsize=8)
def _ones(size: int, dtype: str) -> np.ndarray[Any, Any]:
    return np.ones(size, dtype=dtype)


def distribution_error(name: str, probs: Array) -> ValueError:
    """Return the error for invalid rows, with the first bad index."""
    xp = array_namespace(probs=probs)
    check_finite(name, probs, xp)
    negative = probs < 0.0
    if bool(xp.any(negative)):
        index = first_index(negative, xp)
        got = f"{float(probs[index])} at index {show_index(index)}"
        return ValueError(f"{name} must not be negative, got {got}: pass the softmax of logits")
    sums = _row_sums(probs, xp)
    index = first_index(~_near_one(sums, probs, xp), xp)
    row = f" in row {show_index(index)}" if index else ""
    return ValueError(f"{name} must sum to 1 over the last axis, got {float(sums[index]):.6g}{row}")


def _row_sums(probs: Array, xp: Any) -> Array:
    if isinstance(probs, np.ndarray) and probs.dtype.itemsize >= 4:
        return probs @ np.ones(probs.shape[-1], dtype=probs.dtype)
    # Half precision is summed in single precision, otherwise the sum of a long row is lost to rounding.
    return xp.sum(probs, axis=-1, dtype=xp.float32 if xp.finfo(probs.dtype).bits < 32 else probs.dtype)


def _near_one(sums: Array, probs: Array, xp: Any) -> Array:
    return xp.abs(sums - 1.0) <= max(math.sqrt(float(xp.finfo(probs.dtype).eps)), 1e-5)
