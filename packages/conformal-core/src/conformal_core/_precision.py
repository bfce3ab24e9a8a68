"""Comparison of scores with thresholds, also of different precision.

The comparison s ≤ q̂ is made in the coarser of the two precisions. The finer number is rounded in favour of the label,
a threshold up and a score down. Rounding by less than one unit in the last place of the coarser precision
therefore never removes a label from a set, and sets and p-values agree at the boundary.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, device, is_torch

Array = Any

_LARGEST_SINGLE, _INFINITY = float(np.finfo(np.float32).max), np.float32(np.inf)


def narrow(qhat: float, like: Array) -> float:
    """Round a threshold of the host up to a number that the dtype of ``like`` holds."""
    kind = like.dtype.char if type(like) is np.ndarray else ""
    if kind == "d":
        return qhat
    if kind == "f" and abs(qhat) <= _LARGEST_SINGLE:
        single = np.float32(qhat)
        nearest = float(single)
        return nearest if nearest >= qhat else float(np.nextafter(single, _INFINITY))
    info = array_namespace(like=like).finfo(like.dtype)
    if info.bits >= 64 or not math.isfinite(qhat):
        return qhat
    largest, spacing = float(info.max), float(info.eps)
    if abs(qhat) > largest:
        return math.inf if qhat > 0 else -largest
    # Neighbours of m · 2^e with 1 ≤ m < 2 are eps · 2^e apart, those below the smallest normal number as those above.
    grid = spacing * max(2.0 ** (math.frexp(qhat)[1] - 1), float(info.smallest_normal))
    return math.ceil(qhat / grid) * grid


def comparable(qhat: Array | float, like: Array) -> Array:
    """Return the largest number of ``like``'s dtype that a threshold admits, as an array."""
    if type(like) is np.ndarray and type(qhat) is float:
        return np.asarray(narrow(qhat, like), dtype=like.dtype)
    xp = array_namespace(like=like)
    if isinstance(qhat, (int, float)):
        return xp.asarray(narrow(float(qhat), like), dtype=like.dtype, device=device(like))
    if qhat.dtype == like.dtype:
        return qhat
    if xp.finfo(like.dtype).eps >= xp.finfo(qhat.dtype).eps:
        return rounded_up(qhat, like.dtype)
    # Scores of a finer precision round down to q̂ as long as they are below the next number of its precision.
    beyond = xp.astype(_next(qhat, math.inf, xp), like.dtype)
    return xp.where(xp.isinf(qhat), xp.astype(qhat, like.dtype), _next(beyond, -math.inf, xp))


def rounded_up(values: Array, dtype: Any) -> Array:
    """Convert to ``dtype``, to the smallest number of it that is at least the value."""
    if values.dtype == dtype:
        return values
    xp = array_namespace(values=values)
    with quietly(values):
        nearest = xp.astype(values, dtype)
    return xp.where(xp.astype(nearest, values.dtype) < values, _next(nearest, math.inf, xp), nearest)


def rounded_down(values: Array, dtype: Any) -> Array:
    """Convert to ``dtype``, to the largest number of it that is at most the value."""
    return values if values.dtype == dtype else _array(-rounded_up(_array(-values), dtype))


def below(scores: Array) -> Array:
    """Return the number before each score in float64: a score of a memory above it is at least the score.

    Memories contain float64. Compared with a score of a coarser precision, their scores are rounded up to it.
    """
    xp = array_namespace(scores=scores)
    return xp.astype(_next(scores, -math.inf, xp), xp.float64)


def _next(values: Array, towards: float, xp: Any) -> Array:
    with quietly(values):
        if type(values) is np.ndarray:
            return np.asarray(np.nextafter(values, values.dtype.type(towards)))
        return _array(xp.nextafter(values, xp.full_like(values, towards)))


def quietly(values: Array) -> AbstractContextManager[object]:
    """Silence numpy on results beyond the largest number; torch does not warn, and cannot trace the context manager."""
    return nullcontext() if is_torch(values) else np.errstate(over="ignore", invalid="ignore")


def _array(result: Array) -> Array:
    return np.asarray(result) if isinstance(result, np.generic) else result  # numpy makes a scalar of what has no axes
