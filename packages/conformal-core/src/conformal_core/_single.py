"""One row and one label, in the forms in which a loop over a stream passes them.

A row is a numpy row (K,), a slice (1, K) of an array, or either as a tensor in host memory. A label is an integer of
Python or numpy, or an array or tensor that holds one integer.
"""

import sys
from functools import lru_cache
from typing import Any

import numpy as np

from conformal_core._arrays import from_host, host_view, is_torch
from conformal_core._distribution import is_distribution_row

Array = Any


def single_row(probs: Array, check: bool | None, *, normalized: bool) -> np.ndarray[Any, Any] | None:
    """Return one valid row in float32 or float64 as a numpy array (K,), a view if possible; None for anything else."""
    row = probs if type(probs) is np.ndarray else _view_of_tensor(probs)
    if row is None or not row.size or row.dtype.char not in "fd":
        return None
    if row.ndim != 1:
        if not row.ndim or row.size != row.shape[-1]:
            return None
        row = row.reshape(-1)
    return row if check is False or is_distribution_row(row, normalized=normalized) else None


def single_label(label: Array, probs: Array) -> int | None:
    """Return the label of one row of ``probs`` as an integer in 0..K − 1; None for anything else."""
    if isinstance(label, np.integer):
        label = int(label)
    elif type(label) is type(probs) and label.ndim < probs.ndim and _is_integer(label):
        label = int(label.item())
    return label if type(label) is int and 0 <= label < probs.shape[-1] else None


def in_form_of(probs: Array, values: Array) -> Array:
    """Return values of one row, (K,) or (), with the leading axes and the library of ``probs``."""
    values = np.asarray(values)
    if probs.ndim > 1:
        values = values.reshape(probs.shape if values.ndim else probs.shape[:-1])
    return values if type(probs) is np.ndarray else from_host(values, probs)


def single_float(value: Array, like: Array | None = None) -> float | None:
    """Return a double-precision number, or the only one of a numpy array, as a float; None for anything else.

    Also None for an array with more axes than ``like``.
    """
    if type(value) is not np.ndarray:
        return float(value) if type(value) is np.float64 or type(value) is float else None
    if value.size != 1 or value.dtype.char != "d" or (like is not None and value.ndim > getattr(like, "ndim", 0)):
        return None
    return value.item()  # type: ignore[no-any-return]


def filled(like: Array, values: float | tuple[float, ...]) -> np.ndarray[Any, Any]:
    """Return an array of the shape of one number, with a last axis for several."""
    if type(like) is np.ndarray and like.ndim:
        return np.array(values, ndmin=like.ndim + (type(values) is tuple))
    return np.asarray(values)


@lru_cache(maxsize=8)
def places(size: int, dtype: Any) -> np.ndarray[Any, Any]:
    """Return the read-only array 0, 1, …, size − 1, which every step of a stream needs again."""
    array = np.arange(size, dtype=dtype)
    array.flags.writeable = False
    return array


def _view_of_tensor(value: Array) -> np.ndarray[Any, Any] | None:
    if not is_torch(value) or (value.ndim > 1 and value.shape[0] > 1):
        return None
    torch = sys.modules["torch"]
    if torch.compiler.is_compiling() or value.layout is not torch.strided or value.is_nested:
        return None
    return host_view(value) if value.dtype in {torch.float32, torch.float64} else None


def _is_integer(label: Array) -> bool:
    """Whether an array or tensor in host memory holds one integer."""
    if type(label) is np.ndarray:
        return label.size == 1 and label.dtype.kind in "iu"
    if not is_torch(label) or label.device.type != "cpu" or label.numel() != 1:
        return False
    torch = sys.modules["torch"]
    return label.dtype in {torch.int64, torch.int32}
