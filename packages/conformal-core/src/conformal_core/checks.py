"""Checks of arguments, shared by the packages built on this one.

``check_*`` raises TypeError for the wrong kind and ValueError for the wrong value; ``is_*`` returns a bool. Kinds and
shapes are always checked. Values must be read, so callers test :func:`is_checked` first.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from conformal_core._arrays import array_namespace, device, is_tracing

Array = Any
Choice = TypeVar("Choice", bound=str)

_IN_CACHE = 1 << 17  # elements that stay in the cache between two passes
# Rounding error allowed for the sum of a row, by dtype: the square root of the machine epsilon, and at least 1e-5.
_TOLERANCE = {"f": math.sqrt(float(np.finfo(np.float32).eps)), "d": 1e-5}


def is_checked(array: Array, check: bool | None) -> bool:
    """Whether to check values: ``check``, or if None, whether they are in host memory and no compiler traces."""
    if check is not None:
        return check
    if isinstance(array, np.ndarray):
        return True
    return not is_tracing(array) and "cpu" in str(device(array)).lower()


def check_number(name: str, value: object) -> None:
    """Raise TypeError for anything but a real number of Python or numpy."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def check_finite_number(name: str, value: float) -> float:
    """Return a number that is finite."""
    if type(value) is not float:
        check_number(name, value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def check_nonnegative(name: str, value: float) -> float:
    """Return a number that is finite and at least 0."""
    check_number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
    return float(value)


def check_interval(name: str, value: float, interval: str) -> float:
    """Return a number that lies in an interval, written as ``"(0, 1]"``."""
    check_number(name, value)
    low, high = map(float, interval[1:-1].split(","))
    if not low <= value <= high or (value == low and interval[0] == "(") or (value == high and interval[-1] == ")"):
        raise ValueError(f"{name} must lie in {interval}, got {value}")
    return float(value)


def check_count(name: str, value: int, *, least: int = 1) -> int:
    """Return an integer that is at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def check_choice(name: str, value: Choice, choices: Any) -> Choice:
    """Return a string that is one of those of a ``Literal``."""
    allowed = choices.__args__  # `get_args` returns the same, and older compilers of torch cannot trace it
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def check_callable(name: str, value: object) -> None:
    """Raise TypeError for an object that is not callable."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {type(value).__name__}")


def check_type(name: str, value: object, kinds: Any, rule: str) -> None:
    """Raise TypeError for an object that is of none of the types, with the rule, such as "be a Level"."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must {rule}, got {type(value).__name__}")


def check_others(own: Any, others: Sequence[Any]) -> None:
    """Raise TypeError or ValueError for objects that cannot be merged with another of the same class."""
    for other in others:
        check_type("others", other, type(own), f"be of kind {type(own).__name__}")
        if other is own:
            raise ValueError("others must be other objects, got this one, which would count twice")


def check_score(score: object, method: str = "__call__") -> None:
    """Raise TypeError for a score that is not callable, or lacks the method that a predictor needs."""
    if isinstance(score, type):
        raise TypeError(f"score must be an instance, such as {score.__name__}(), got the class")
    if not callable(score):
        raise TypeError(f"score must be callable, such as LAC(), got {type(score).__name__}")
    if not hasattr(score, method):
        base = {"sets": "ClassificationScore", "interval": "RegressionScore"}.get(method, "NonconformityScore")
        raise TypeError(f"score must have the method {method}, as subclasses of {base} do, got {type(score).__name__}")


def check_floating(name: str, array: Array) -> Any:
    """Return the namespace of an array of real floating-point numbers, without conversion."""
    xp = array_namespace(**{name: array})
    if not xp.isdtype(array.dtype, "real floating"):
        raise TypeError(f"{name} must be of a floating dtype, got {array.dtype}")
    return xp


def check_shape(name: str, array: Array, shape: Sequence[int | str]) -> None:
    """Raise ValueError for an array of another shape; a string allows any length, as in ``("N", 3)``."""
    own = tuple(array.shape)
    if len(own) != len(shape) or any(
        not isinstance(wanted, str) and wanted != n for n, wanted in zip(own, shape, strict=True)
    ):
        axes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name} must have shape ({axes}), got {own}")


def check_labels(name: str, labels: Array, rows: int, classes: int, *, check: bool | None) -> Array:
    """Return integer labels (rows,) as int64, which lie in 0..classes − 1 if values are checked."""
    xp = array_namespace(**{name: labels})
    if not xp.isdtype(labels.dtype, "integral"):
        raise TypeError(f"{name} must be of an integer dtype, got {labels.dtype}")
    check_shape(name, labels, (rows,))
    labels = xp.astype(labels, xp.int64, copy=False)  # the number of classes need not fit into a narrower integer
    if is_checked(labels, check):
        check_label_range(name, labels, classes, xp)
    return labels


def check_label_range(name: str, labels: Array, classes: int, xp: Any) -> None:
    """Raise ValueError for a label outside 0..classes − 1, with its row."""
    bad = (labels < 0) | (labels >= classes)
    if bool(xp.any(bad)):
        index = first_index(bad, xp)
        raise ValueError(f"{name} must lie in 0..{classes - 1}, got {int(labels[index])} at row {show_index(index)}")


def check_finite(name: str, array: Array, xp: Any, *, check: bool | None = True) -> None:
    """Raise ValueError for NaN and infinity, with the first bad index, if values are checked."""
    if check is False or (check is None and not is_checked(array, check)):
        return
    if type(array) is np.ndarray and array.size == 1 and math.isfinite(array.item()):
        return
    # One reduction detects every NaN and infinity. Finite values may overflow it, which the slow path sorts out.
    with np.errstate(over="ignore", invalid="ignore"):
        if bool(xp.isfinite(xp.sum(array))):  # not a float, which torch warns of where there is a gradient
            return
        bad = xp.logical_not(xp.isfinite(array))
    if bool(xp.any(bad)):
        index = first_index(bad, xp)
        raise ValueError(f"{name} must be finite, got {float(array[index])} at index {show_index(index)}")


def check_not_nan(name: str, array: Array, xp: Any) -> None:
    """Raise ValueError for NaN, with the first bad index; infinity is a valid threshold."""
    bad = xp.isnan(array)
    if bool(xp.any(bad)):
        raise ValueError(f"{name} must not be NaN, got nan at index {show_index(first_index(bad, xp))}")


def first_index(mask: Array, xp: Any) -> tuple[int, ...]:
    """Index of the first true element of a mask, in row-major order."""
    flat = int(xp.argmax(xp.astype(xp.reshape(mask, (-1,)), xp.int8)))
    index: list[int] = []
    for length in reversed(mask.shape):
        flat, position = divmod(flat, length)
        index.insert(0, position)
    return tuple(index)


def show_index(index: tuple[int, ...]) -> str:
    """Return an index as text: a number if there is one axis."""
    return str(index[0]) if len(index) == 1 else str(index)


def is_distribution(probs: Array, *, normalized: bool) -> bool:
    """Whether rows are probabilities over the last axis; if not ``normalized``, they may have any finite sum."""
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
