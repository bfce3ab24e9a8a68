"""The one place where input is refused: array kinds, shapes, values.

Kinds and shapes are known without looking at the data, so they are always checked. Values (finite, a probability, a label in range)
have to be read; they are checked by default where reading them is cheap, on host arrays, and on request where it would make
the host wait for a device. See :func:`reads_values`.
"""

import math
import sys
from typing import Any

import array_api_compat
import array_api_compat.numpy as np_compat
import numpy as np

Array = Any


def array_namespace(**arrays: Array) -> Any:
    """Return the array-API namespace that all of the named arrays share.

    Raises
    ------
    TypeError
        If one of them is not an array, or if they come from different libraries.
    """
    if all(type(array) is np.ndarray for array in arrays.values()):
        return np_compat
    for name, array in arrays.items():
        if not array_api_compat.is_array_api_obj(array):
            raise TypeError(f"{name} must be an array (numpy, torch or any array-API library), got {type(array).__name__}")
    first, *others = arrays.items()
    xp = array_api_compat.array_namespace(first[1])
    for name, array in others:
        if array_api_compat.array_namespace(array) is not xp:
            raise TypeError(
                f"{name} must come from the same array library as {first[0]}, "
                f"got {type(array).__module__}.{type(array).__name__} beside {type(first[1]).__module__}.{type(first[1]).__name__}"
            )
    return xp


def reads_values(array: Array, check: bool | None) -> bool:
    """Whether the values of ``array`` are to be checked.

    ``True`` and ``False`` decide. ``None`` means yes for arrays whose memory the host can read at once, and no for arrays on
    another device and while a compiler is tracing.
    """
    if check is not None:
        return check
    if isinstance(array, np.ndarray):
        return True
    if array_api_compat.is_torch_array(array):
        return array.device.type == "cpu" and not sys.modules["torch"].compiler.is_compiling()
    if array_api_compat.is_jax_array(array):
        return not isinstance(array, sys.modules["jax"].core.Tracer) and array_api_compat.device(array).platform == "cpu"
    return "cpu" in str(array_api_compat.device(array)).lower()


def is_floating(name: str, array: Array, xp: Any) -> None:
    """Refuse an array that does not hold real floating-point numbers."""
    if not xp.isdtype(array.dtype, "real floating"):
        raise TypeError(f"{name} must hold real floating-point numbers, got {array.dtype}")


def has_classes(name: str, array: Array) -> None:
    """Refuse an array without a last axis of at least one class."""
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (..., K) with K >= 1, got {tuple(array.shape)}")


def is_finite(name: str, array: Array, xp: Any) -> None:
    """Refuse NaN and infinity, naming the first bad index."""
    # One reduction sees every NaN and infinity. Finite values may overflow it, which the slow path then forgives.
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(float(xp.sum(array))):
            return
        bad = xp.logical_not(xp.isfinite(array))
    if bool(xp.any(bad)):
        index = first_index(bad, xp)
        raise ValueError(f"{name} must be finite, got {_value(array, index)} at index {_show(index)}")


def is_not_nan(name: str, array: Array, xp: Any) -> None:
    """Refuse NaN, naming the first bad index; infinity is a legal threshold."""
    bad = xp.isnan(array)
    if bool(xp.any(bad)):
        raise ValueError(f"{name} must not be NaN, got nan at index {_show(first_index(bad, xp))}")


def is_distribution(name: str, probs: Array, xp: Any, *, normalized: bool = True) -> None:
    """Refuse rows that are not probabilities over the last axis; not ``normalized``, only negative and non-finite values.

    A row may miss the sum 1 by the rounding its dtype is known for: the square root of the machine epsilon, and at least 1e-5, because
    double-precision rows are often single-precision rows that were converted.
    """
    # The row sums and the minimum together see NaN, infinities, negative values and wrong sums in two passes.
    sums = _row_sums(probs, xp)
    tolerance = max(math.sqrt(float(xp.finfo(probs.dtype).eps)), 1e-5)
    # "all good" rather than "none bad": comparisons with NaN are false.
    right = xp.abs(sums - 1.0) <= tolerance if normalized else xp.isfinite(sums)
    if math.prod(probs.shape) == 0 or (bool(xp.all(right)) and bool(xp.min(probs) >= 0.0)):
        return
    is_finite(name, probs, xp)
    negative = probs < 0.0
    if bool(xp.any(negative)):
        index = first_index(negative, xp)
        raise ValueError(f"{name} must not be negative, got {_value(probs, index)} at index {_show(index)}")
    if not normalized:
        return
    index = first_index(~right, xp)
    row = f" in row {_show(index)}" if index else ""
    raise ValueError(f"{name} must sum to 1 over the last axis, got {_value(sums, index)}{row}")


def are_labels(labels: Array, classes: int, xp: Any) -> None:
    """Refuse a label outside ``0 .. classes - 1``, naming its row."""
    bad = (labels < 0) | (labels >= classes)
    if bool(xp.any(bad)):
        index = first_index(bad, xp)
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {int(labels[index])} at row {_show(index)}")


def is_integer(name: str, array: Array, xp: Any) -> None:
    """Refuse an array that does not hold integers."""
    if not xp.isdtype(array.dtype, "integral"):
        raise TypeError(f"{name} must hold integers, got {array.dtype}")


def first_index(mask: Array, xp: Any) -> tuple[int, ...]:
    """Index of the first true element of a mask, in row-major order."""
    flat = int(xp.argmax(xp.astype(xp.reshape(mask, (-1,)), xp.int8)))
    index: list[int] = []
    for length in reversed(mask.shape):
        flat, position = divmod(flat, length)
        index.insert(0, position)
    return tuple(index)


def _row_sums(probs: Array, xp: Any) -> Array:
    if xp is np_compat and probs.dtype.itemsize >= 4:
        return probs @ np.ones(probs.shape[-1], dtype=probs.dtype)
    # Half precision is summed in single precision, else a long row loses its sum to rounding.
    wide = xp.float32 if xp.finfo(probs.dtype).bits < 32 else probs.dtype
    return xp.sum(probs, axis=-1, dtype=wide)


def _value(array: Array, index: tuple[int, ...]) -> float:
    return float(array[index])


def _show(index: tuple[int, ...]) -> str:
    return str(index[0]) if len(index) == 1 else str(index)
