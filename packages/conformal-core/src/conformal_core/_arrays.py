"""Array dispatch: library, device, conversion and precision of arrays.

numpy and torch are recognised here, so compilers can trace the functions; array-api-compat handles all other
libraries. Torch is never imported, only looked up among the loaded modules.

Scores and thresholds of different precision are compared in the coarser one, thresholds rounded up and scores down, so
rounding never removes a label from a set, and sets and p-values agree at the boundary.
"""

import importlib
import math
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_compat
import numpy as np

Array = Any

# numpy follows the standard since 2.1; array-api-compat's copy of it takes longer to import than numpy itself.
_NUMPY: Any = np if hasattr(np, "cumulative_sum") else importlib.import_module("array_api_compat.numpy")

_LARGEST_SINGLE, _INFINITY = float(np.finfo(np.float32).max), np.float32(np.inf)


def is_torch(array: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def as_array(name: str, value: Any, like: Array | None = None) -> Array:
    """Return an array unchanged, and convert a number, list, column or table to one like ``like``, or else of numpy.

    TypeError for what cannot be converted and for a list of arrays of other libraries, ValueError for ragged rows.
    """
    if type(value) is np.ndarray or is_torch(value):
        return value
    scalar = isinstance(value, np.generic)
    if not scalar and array_api_compat.is_array_api_obj(value):
        return value
    kind = type(value).__name__
    if isinstance(value, (list, tuple)):
        _refuse_arrays_within(name, value)
    elif not (scalar or isinstance(value, (int, float, str, range)) or hasattr(value, "__array__")):
        raise TypeError(f"{name} must be an array (numpy, torch or any array-API library), got {kind}")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must have rows of one length, got a ragged {kind}") from None
    if like is None or isinstance(like, np.ndarray) or array.dtype.kind not in "biuf":
        return array
    return array_namespace(like=like).asarray(array, device=device(like))


def _refuse_arrays_within(name: str, value: list[Any] | tuple[Any, ...]) -> None:
    first: Any = value
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if not isinstance(first, (np.ndarray, np.generic)) and array_api_compat.is_array_api_obj(first):
        got = f"a {type(value).__name__} of {_kind(first)}"
        raise TypeError(f"{name} must be an array, got {got}: stack them into one first")


def array_namespace(**arrays: Array) -> Any:
    """Return the array-API namespace that all of the named arrays share; TypeError if there is none."""
    first_name, first, xp = "", None, None
    for name, array in arrays.items():
        own = _NUMPY if type(array) is np.ndarray else _namespace(name, array)
        if xp is None:
            first_name, first, xp = name, array, own
        elif own is not xp:
            pair = f"{_kind(array)} beside {_kind(first)}"
            raise TypeError(f"{name} must come from the same array library as {first_name}, got {pair}: convert one")
    return xp


def beside(array: Array, like: Array) -> Array:
    """Return a learned array in the library and on the device of ``like``."""
    xp = array_namespace(like=like)
    return array if array_namespace(array=array) is xp else xp.asarray(to_host(array), device=device(like))


def device(array: Array) -> Any:
    return array.device if is_torch(array) else array_api_compat.device(array)


def _namespace(name: str, array: Array) -> Any:
    if isinstance(array, np.ndarray):
        if type(array) is not np.ndarray and isinstance(array, (np.ma.MaskedArray, np.matrix)):
            # A masked array would lose its mask, and a matrix always keeps two axes.
            raise TypeError(f"{name} must be a plain array, got {type(array).__name__}")
        return _NUMPY
    if is_torch(array):
        torch = sys.modules["torch"]
        if array.layout is not torch.strided or array.is_nested:
            raise TypeError(f"{name} must be a dense tensor, got {'nested' if array.is_nested else array.layout}")
        import array_api_compat.torch as torch_compat  # noqa: PLC0415  (only once torch is there)

        return torch_compat
    if isinstance(array, np.generic) or not array_api_compat.is_array_api_obj(array):
        raise TypeError(f"{name} must be an array (numpy, torch or any array-API library), got {type(array).__name__}")
    return array_api_compat.array_namespace(array)


def _kind(array: Array) -> str:
    return f"{type(array).__module__}.{type(array).__name__}"


def is_tracing(array: Array) -> bool:
    """Whether a compiler is tracing the call, so values and memory are not available."""
    if is_torch(array):
        return bool(sys.modules["torch"].compiler.is_compiling())
    return array_api_compat.is_jax_array(array) and isinstance(array, sys.modules["jax"].core.Tracer)


def host_view(array: Array | None) -> Array | None:
    """Numpy view of a host array; None if there is no such view (or no array)."""
    if isinstance(array, np.ndarray):
        return array
    if not is_torch(array) or array is None or array.device.type != "cpu":
        return None
    # numpy has no bfloat16, and a gradient must not be lost.
    if array.requires_grad or str(array.dtype) == "torch.bfloat16":
        return None
    return array.numpy()


def to_host(array: Array) -> np.ndarray[Any, Any]:
    if array_api_compat.is_cupy_array(array):
        return np.asarray(array.get())
    return np.asarray(array.detach().cpu() if is_torch(array) else array)


def from_host(result: np.ndarray[Any, Any], original: Array) -> Array:
    result = np.asarray(result)  # numpy makes a scalar of what has no axes
    return sys.modules["torch"].from_numpy(result) if is_torch(original) else result


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
    """Return the number before each score in float64: a score of a memory above it is at least the score."""
    xp = array_namespace(scores=scores)
    return xp.astype(_next(scores, -math.inf, xp), xp.float64)


def _next(values: Array, towards: float, xp: Any) -> Array:
    with quietly(values):
        if type(values) is np.ndarray:
            return np.asarray(np.nextafter(values, values.dtype.type(towards)))
        return _array(xp.nextafter(values, xp.full_like(values, towards)))


def quietly(values: Array) -> AbstractContextManager[object]:
    """Silence numpy on overflow; torch does not warn, and cannot trace the context manager."""
    return nullcontext() if is_torch(values) else np.errstate(over="ignore", invalid="ignore")


def _array(result: Array) -> Array:
    return np.asarray(result) if isinstance(result, np.generic) else result  # numpy makes a scalar of what has no axes
