"""The one place where input is refused: array kinds, shapes, values.

Kinds and shapes are known without looking at the data, so they are always checked. Values (finite, a probability, a
label in range) have to be read; callers ask :func:`conformal_core._arrays.reads_values` first.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, as_array, device, is_torch, reads_values
from conformal_core._precision import comparable

Array = Any

_IN_CACHE = 1 << 17  # elements that a second pass finds in the cache

# The rounding that a row's sum may show, by dtype: the square root of the machine epsilon, and at least 1e-5.
_TOLERANCE = {"f": math.sqrt(float(np.finfo(np.float32).eps)), "d": 1e-5}


def floating(name: str, value: Any, like: Array | None = None) -> Array:
    """Return an array of real floating-point numbers, see :func:`as_array`; integers become double precision.

    Raises
    ------
    TypeError
        If it holds anything else.
    """
    if type(value) is np.ndarray and value.dtype.char in "fd":
        return value
    array = as_array(name, value, like)
    xp = array_namespace(**{name: array})
    # Numbers of one byte exist in torch for products of matrices alone.
    if xp.isdtype(array.dtype, "real floating") and not (is_torch(array) and array.dtype.itemsize < 2):
        return array
    if xp.isdtype(array.dtype, "integral"):
        return xp.astype(array, xp.float64)
    text = isinstance(array, np.ndarray) and array.dtype.kind in "OSTU"
    hint = f": convert it, for example by numpy.asarray({name}, dtype=float)" if text else ""
    raise TypeError(f"{name} must hold real floating-point numbers, got {array.dtype}{hint}")


def has_classes(name: str, array: Array) -> None:
    """Refuse an array without a last axis of at least one class."""
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (..., K) with K >= 1, got {tuple(array.shape)}")


def is_finite(name: str, array: Array, xp: Any) -> None:
    """Refuse NaN and infinity, naming the first bad index."""
    # One reduction sees every NaN and infinity. Finite values may overflow it, which the slow path then forgives.
    with np.errstate(over="ignore", invalid="ignore"):
        if bool(xp.isfinite(xp.sum(array))):  # not a float, which torch warns of where there is a gradient
            return
        bad = xp.logical_not(xp.isfinite(array))
    if bool(xp.any(bad)):
        index = first_index(bad, xp)
        raise ValueError(f"{name} must be finite, got {float(array[index])} at index {_show(index)}")


def is_not_nan(name: str, array: Array, xp: Any) -> None:
    """Refuse NaN, naming the first bad index; infinity is a legal threshold."""
    bad = xp.isnan(array)
    if bool(xp.any(bad)):
        raise ValueError(f"{name} must not be NaN, got nan at index {_show(first_index(bad, xp))}")


def is_distribution(probs: Array, *, normalized: bool) -> bool:
    """Whether rows are probabilities over the last axis; if not ``normalized``, sums are free.

    A row may miss the sum 1 by the rounding its dtype is known for: the square root of the machine epsilon, and at
    least 1e-5, because double-precision rows are often single-precision rows that were converted.
    """
    xp = array_namespace(probs=probs)
    if isinstance(probs, np.ndarray) and probs.size > _IN_CACHE:
        rows = probs.reshape(-1, probs.shape[-1])
        step = max(1, _IN_CACHE // probs.shape[-1])
        return all(_are_distributions(rows[i : i + step], normalized, xp) for i in range(0, len(rows), step))
    return math.prod(probs.shape) == 0 or _are_distributions(probs, normalized, xp)


def _are_distributions(probs: Array, normalized: bool, xp: Any) -> bool:
    # Row sums and the minimum see NaN, infinities, negative values and wrong sums in two passes. Comparisons with NaN
    # are false, so "all good" is asked rather than "none bad".
    sums = _row_sums(probs, xp)
    right = _near_one(sums, probs, xp) if normalized else xp.isfinite(sums)
    return bool(xp.all(right)) and bool(xp.min(probs) >= 0.0)


def is_plain_row(probs: Array, *, normalized: bool, check: bool | None) -> bool:
    """Whether ``probs`` is one numpy row of probabilities: the case of a stream, seen in microseconds."""
    if type(probs) is not np.ndarray or probs.ndim != 1 or not probs.size or probs.dtype.char not in "fd":
        return False
    if check is False:
        return True
    total = float(probs.dot(_ones(probs.size, probs.dtype.char)))
    right = abs(total - 1.0) <= _TOLERANCE[probs.dtype.char] if normalized else math.isfinite(total)
    return right and bool(probs[probs.argmin()] >= 0.0)  # the place of the smallest is found faster than itself


@lru_cache(maxsize=8)
def _ones(size: int, dtype: str) -> np.ndarray[Any, Any]:
    return np.ones(size, dtype=dtype)


def refusal_of_distribution(name: str, probs: Array, xp: Any) -> ValueError:
    """Return the error that says what is wrong with rows that are not probabilities, naming the first bad index."""
    is_finite(name, probs, xp)
    negative = probs < 0.0
    if bool(xp.any(negative)):
        index = first_index(negative, xp)
        got = f"{float(probs[index])} at index {_show(index)}"
        return ValueError(f"{name} must not be negative, got {got}: pass the softmax of logits")
    sums = _row_sums(probs, xp)
    index = first_index(~_near_one(sums, probs, xp), xp)
    row = f" in row {_show(index)}" if index else ""
    return ValueError(f"{name} must sum to 1 over the last axis, got {float(sums[index]):.6g}{row}")


def labels_of_rows(labels: Array | int, values: Array, *, check: bool | None) -> Array:
    """Return labels broadcast to the rows of ``values`` (..., K), as int64; refuse what is no label of theirs."""
    labels = integers("labels", labels, values)
    xp = array_namespace(values=values)
    if reads_values(labels, check):
        are_labels(labels, values.shape[-1], xp)
    rows = tuple(values.shape[:-1])
    try:
        return xp.broadcast_to(labels, rows)
    except (ValueError, RuntimeError):
        got, cure = tuple(labels.shape), ""
        if got == tuple(values.shape):
            cure = ": pass labels.argmax(-1) of one-hot rows"
        elif not rows:
            cure = ": probs of one row take one label, those of N rows have shape (N, K)"
        elif got == (*rows, 1):
            cure = ": pass labels[..., 0]"
        raise ValueError(f"labels must broadcast to shape {rows}, got {got}{cure}") from None


def threshold(qhat: Array | float, shape: tuple[int, ...], like: Array, *, check: bool | None) -> Array:
    """Return a threshold in ``like``'s library and dtype; refuse NaN, and what does not broadcast to ``shape``.

    Where the dtypes differ it is the threshold that admits the same scores; see :mod:`conformal_core._precision`.
    """
    xp = array_namespace(like=like)
    if isinstance(qhat, (int, float, np.floating, np.integer)):
        if math.isnan(qhat):  # a number of the host: to look at it costs nothing
            raise ValueError("qhat must not be NaN, got nan")
        return comparable(float(qhat), like)
    qhat = floating("qhat", qhat, like)
    array_namespace(like=like, qhat=qhat)
    if not _broadcasts(tuple(qhat.shape), shape):
        raise ValueError(f"qhat must broadcast to shape {shape}, got {tuple(qhat.shape)}")
    if reads_values(qhat, check):
        is_not_nan("qhat", qhat, xp)
    return comparable(qhat, like)


def _broadcasts(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    return len(inner) <= len(outer) and all(a in (1, b) for a, b in zip(reversed(inner), reversed(outer), strict=False))


def uniform_draws(u: Array | float, shape: tuple[int, ...], like: Array, *, check: bool | None) -> Array:
    """Return draws as an array of ``like``'s kind, broadcast to ``shape``; refuse what lies outside [0, 1]."""
    xp = array_namespace(like=like)
    if isinstance(u, (int, float)):
        u = xp.asarray(float(u), dtype=like.dtype, device=device(like))
    u = floating("u", u, like)
    array_namespace(like=like, u=u)
    if reads_values(u, check):
        outside = xp.logical_not((u >= 0.0) & (u <= 1.0))  # true for NaN, too
        if bool(xp.any(outside)):
            raise ValueError(f"u must lie in [0, 1], got {float(u[first_index(outside, xp)])}")
    try:
        return xp.broadcast_to(u, shape)
    except (ValueError, RuntimeError):
        raise ValueError(f"u must broadcast to shape {shape}, got {tuple(u.shape)}") from None


def are_labels(labels: Array, classes: int, xp: Any) -> None:
    """Refuse a label outside ``0 .. classes - 1``, naming its row."""
    bad = (labels < 0) | (labels >= classes)
    if bool(xp.any(bad)):
        index = first_index(bad, xp)
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {int(labels[index])} at row {_show(index)}")


def is_number(name: str, value: object) -> None:
    """Refuse what is no real number of the host."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def is_finite_number(name: str, value: float) -> None:
    """Refuse NaN and infinity in a number of the host."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def integers(name: str, value: Any, like: Array) -> Array:
    """Return an array of int64 beside ``like``, see :func:`as_array`.

    Raises
    ------
    TypeError
        If it holds anything else than integers, or comes from another library.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        xp = array_namespace(like=like)
        return xp.asarray(int(value), dtype=xp.int64, device=device(like))
    array = as_array(name, value, like)
    if isinstance(array, np.ndarray) and array.dtype.kind in "OSTU":  # before libraries are compared: text has none
        raise TypeError(_refusal_of_names(name, array))
    if isinstance(array, np.ndarray) and not array.size and isinstance(value, (list, tuple)):
        array = array_namespace(like=like).asarray(array.astype(np.int64), device=device(like))
    xp = array_namespace(**{"the other arguments": like, name: array})
    if not xp.isdtype(array.dtype, "integral"):
        raise TypeError(f"{name} must hold integers, got {array.dtype}: if they are positions, convert them to int64")
    return xp.astype(array, xp.int64, copy=False)  # not every library compares what is narrower, or unsigned


def _refusal_of_names(name: str, array: np.ndarray[Any, Any]) -> str:
    first = array.reshape(-1)[0] if array.size else None
    if not isinstance(first, (str, bytes)):
        return f"{name} must hold integers, got {array.dtype}: if they are positions, convert them to int64"
    if name != "labels":
        return f"{name} must hold integers, got names such as {str(first)!r}: number them from 0"
    return (
        f"labels must be positions 0..K-1, got names such as {str(first)!r}: "
        "numpy.searchsorted(model.classes_, labels) gives them for a classifier of scikit-learn"
    )


def is_score(score: object, method: str = "__call__") -> None:
    """Refuse what cannot be called with predictions, or lacks the method that a predictor asks."""
    if isinstance(score, type):
        raise TypeError(f"score must be an instance, such as {score.__name__}(), got the class")
    if not callable(score):
        raise TypeError(f"score must be callable, such as LAC(), got {type(score).__name__}")
    if not hasattr(score, method):
        base = "Score" if method == "sets" else "ResidualScore"
        raise TypeError(f"score must have the method {method}, as subclasses of {base} do, got {type(score).__name__}")


def is_count(name: str, value: int, *, least: int = 1) -> int:
    """Return an integer of at least ``least``; refuse anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def first_index(mask: Array, xp: Any) -> tuple[int, ...]:
    """Index of the first true element of a mask, in row-major order."""
    flat = int(xp.argmax(xp.astype(xp.reshape(mask, (-1,)), xp.int8)))
    index: list[int] = []
    for length in reversed(mask.shape):
        flat, position = divmod(flat, length)
        index.insert(0, position)
    return tuple(index)


def _row_sums(probs: Array, xp: Any) -> Array:
    if isinstance(probs, np.ndarray) and probs.dtype.itemsize >= 4:
        return probs @ np.ones(probs.shape[-1], dtype=probs.dtype)
    # Half precision is summed in single precision, else a long row loses its sum to rounding.
    return xp.sum(probs, axis=-1, dtype=xp.float32 if xp.finfo(probs.dtype).bits < 32 else probs.dtype)


def _near_one(sums: Array, probs: Array, xp: Any) -> Array:
    return xp.abs(sums - 1.0) <= max(math.sqrt(float(xp.finfo(probs.dtype).eps)), 1e-5)


def _show(index: tuple[int, ...]) -> str:
    return str(index[0]) if len(index) == 1 else str(index)
