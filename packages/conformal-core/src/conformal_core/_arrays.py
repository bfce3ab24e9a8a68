"""Array dispatch: library, device and conversion of arrays.

numpy and torch are recognised here, so compilers can trace the functions and streams are fast; array-api-compat handles
all other libraries. Torch is never imported, only looked up among the loaded modules.
"""

import importlib
import sys
from typing import Any

import array_api_compat
import numpy as np

Array = Any

# numpy follows the standard since 2.1; array-api-compat's copy of it takes longer to import than numpy itself.
_NUMPY: Any = np if hasattr(np, "cumulative_sum") else importlib.import_module("array_api_compat.numpy")


def is_torch(array: object) -> bool:
    """Whether ``array`` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def as_array(name: str, value: Any, like: Array | None = None) -> Array:
    """Return an array unchanged, and convert a number, list, column or table to one.

    The result has the library and device of ``like``, or is a numpy array. Tables of pandas or polars are converted by
    their ``__array__``. The dtype is not checked. TypeError for what cannot be converted and for a list of arrays other
    than numpy arrays, ValueError for rows that differ in length.
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
    """Device of an array."""
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
    """Convert an array of any library and device to numpy."""
    if array_api_compat.is_cupy_array(array):
        return np.asarray(array.get())
    return np.asarray(array.detach().cpu() if is_torch(array) else array)


def from_host(result: np.ndarray[Any, Any], original: Array) -> Array:
    """Convert a numpy result to the library of ``original``."""
    result = np.asarray(result)  # numpy makes a scalar of what has no axes
    return sys.modules["torch"].from_numpy(result) if is_torch(original) else result
