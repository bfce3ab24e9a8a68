"""Conversion of arguments to arrays of the kind, library and shape that a function needs.

``as_*`` returns an array, or raises TypeError for the wrong kind and ValueError for the wrong value or shape.
``single_*`` returns one row, label or number in the forms in which a loop over a stream passes it, or else None.
"""

import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from conformal_core._arrays import (
    array_namespace,
    as_array,
    comparable,
    device,
    from_host,
    host_view,
    is_torch,
    to_host,
)
from conformal_core.checks import check_label_range, check_not_nan, first_index, is_checked, is_distribution_row

Array = Any
Name = int | str


def as_floating(name: str, value: Any, like: Array | None = None) -> Array:
    """Return an array of real floating-point numbers, see :func:`as_array`; integers become double precision."""
    if type(value) is np.ndarray and value.dtype.char in "fd":
        return value
    if type(value) in {float, np.float64} and (like is None or type(like) is np.ndarray):
        return np.asarray(value)
    array = as_array(name, value, like)
    if is_torch(array) and _is_floating_tensor(array):
        return array
    xp = array_namespace(**{name: array})
    # One-byte floats of torch support only matrix products.
    if xp.isdtype(array.dtype, "real floating") and not (is_torch(array) and array.dtype.itemsize < 2):
        return array
    if xp.isdtype(array.dtype, "integral"):
        return xp.astype(array, xp.float64)
    text = isinstance(array, np.ndarray) and array.dtype.kind in "OSTU"
    hint = f": convert it, for example by numpy.asarray({name}, dtype=float)" if text else ""
    raise TypeError(f"{name} must hold real floating-point numbers, got {array.dtype}{hint}")


def _is_floating_tensor(array: Array) -> bool:
    dense = array.layout is sys.modules["torch"].strided and not array.is_nested
    return dense and array.dtype.is_floating_point and array.dtype.itemsize > 1


def as_rows(name: str, value: Any) -> Array:
    """Return an array (..., K) of real floating-point numbers with at least one class; see :func:`as_floating`."""
    array = value if type(value) is np.ndarray and value.dtype.char in "fd" else as_floating(name, value)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (..., K) with K >= 1, got {tuple(array.shape)}")
    return array


def as_booleans(name: str, value: Any) -> tuple[Array, Any]:
    """Return an array of booleans and its namespace; see :func:`as_array`."""
    array = as_array(name, value)
    xp = array_namespace(**{name: array})
    if not xp.isdtype(array.dtype, "bool"):
        raise TypeError(f"{name} must hold booleans, got {array.dtype}")
    return array, xp


def as_integers(name: str, value: Any, like: Array) -> Array:
    """Return an int64 array in the library and on the device of ``like``; see :func:`as_array`."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        xp = array_namespace(like=like)
        return xp.asarray(int(value), dtype=xp.int64, device=device(like))
    array = as_array(name, value, like)
    if isinstance(array, np.ndarray) and array.dtype.kind in "OSTU":  # text has no library
        raise TypeError(_names_error(name, array))
    if isinstance(array, np.ndarray) and not array.size and isinstance(value, (list, tuple)):
        array = array_namespace(like=like).asarray(array.astype(np.int64), device=device(like))
    xp = array_namespace(**{"the other arguments": like, name: array})
    if not xp.isdtype(array.dtype, "integral"):
        raise TypeError(f"{name} must hold integers, got {array.dtype}: if they are positions, convert them to int64")
    return xp.astype(array, xp.int64, copy=False)  # not every library compares narrower or unsigned integers


def _names_error(name: str, array: np.ndarray[Any, Any]) -> str:
    first = array.reshape(-1)[0] if array.size else None
    if not isinstance(first, (str, bytes)):
        return f"{name} must hold integers, got {array.dtype}: if they are positions, convert them to int64"
    if name != "labels":
        return f"{name} must hold integers, got names such as {str(first)!r}: number them from 0"
    return (
        f"labels must be positions 0..K-1, got names such as {str(first)!r}: "
        "numpy.searchsorted(model.classes_, labels) gives them for a classifier of scikit-learn"
    )


def as_labels(labels: Array | int, values: Array, *, check: bool | None) -> Array:
    """Return labels in 0..K − 1, broadcast to the rows of ``values`` (..., K), as int64."""
    rows, classes = tuple(values.shape[:-1]), values.shape[-1]
    if type(labels) is type(values) is np.ndarray and labels.dtype.kind in "iu" and labels.shape == rows:
        labels = labels.astype(np.int64, copy=False)
        if check is not False and labels.size and not (labels.min() >= 0 and labels.max() < classes):
            check_label_range("labels", labels, classes, np)
        return labels
    labels = as_integers("labels", labels, values)
    xp = array_namespace(values=values)
    if is_checked(labels, check):
        check_label_range("labels", labels, classes, xp)
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


def as_threshold(qhat: Array | float, shape: tuple[int, ...], like: Array, *, check: bool | None) -> Array:
    """Return a threshold (not NaN) that broadcasts to ``shape``, like ``like`` and admitting the same scores."""
    xp = array_namespace(like=like)
    if isinstance(qhat, (int, float, np.floating, np.integer)):
        if math.isnan(qhat):  # needs no synchronisation
            raise ValueError("qhat must not be NaN, got nan")
        return comparable(float(qhat), like)
    qhat = as_floating("qhat", qhat, like)
    array_namespace(like=like, qhat=qhat)
    own = tuple(qhat.shape)
    if len(own) > len(shape) or any(a not in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)):
        raise ValueError(f"qhat must broadcast to shape {shape}, got {tuple(qhat.shape)}")
    if is_checked(qhat, check):
        check_not_nan("qhat", qhat, xp)
    return comparable(qhat, like)


def as_draws(
    u: Array | float | np.random.Generator, shape: tuple[int, ...], like: Array, *, check: bool | None
) -> Array:
    """Return draws in [0, 1] as an array like ``like``, broadcast to ``shape``; a generator makes new ones."""
    if isinstance(u, np.random.Generator):
        return array_namespace(like=like).asarray(u.random(shape), dtype=like.dtype, device=device(like))
    same = type(u) is type(like) is np.ndarray and u.dtype == like.dtype and u.shape == shape
    if same and (check is False or bool(np.all((u >= 0.0) & (u <= 1.0)))):
        return u
    xp = array_namespace(like=like)
    if isinstance(u, (int, float)):
        u = xp.asarray(float(u), dtype=like.dtype, device=device(like))
    u = as_floating("u", u, like)
    array_namespace(like=like, u=u)
    if is_checked(u, check):
        outside = xp.logical_not((u >= 0.0) & (u <= 1.0))  # also true for NaN
        if bool(xp.any(outside)):
            raise ValueError(f"u must lie in [0, 1], got {float(u[first_index(outside, xp)])}")
    try:
        return xp.broadcast_to(u, shape)
    except (ValueError, RuntimeError):
        raise ValueError(f"u must broadcast to shape {shape}, got {tuple(u.shape)}") from None


def as_names(name: str, values: Any) -> list[Name] | Name:
    """Return integers or strings of a list, array, tensor or column, or a single one."""
    if hasattr(values, "__array_namespace__") and not hasattr(values, "tolist"):
        values = to_host(values)
    plain = values.tolist() if hasattr(values, "tolist") else values
    several = isinstance(plain, Sequence) and not isinstance(plain, (str, bytes))
    for one in plain if several else [plain]:
        if isinstance(one, bool) or not isinstance(one, (int, np.integer, str)):
            got = type(one).__name__
            raise TypeError(f"{name} must be integers or strings, got {got}: str() makes one of most things")
    return [int(one) if isinstance(one, np.integer) else one for one in plain] if several else plain


def single_row(probs: Array, check: bool | None, *, normalized: bool) -> np.ndarray[Any, Any] | None:
    """Return one valid row in float32 or float64 as a numpy array (K,), a view if possible; None for anything else."""
    row = probs if type(probs) is np.ndarray else _view_of_tensor(probs)
    if row is None or not row.size or row.dtype.char not in "fd":
        return None
    if row.ndim != 1:
        if not row.ndim or row.size != row.shape[-1]:
            return None
        row = row[0] if row.ndim == 2 else row.reshape(-1)
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
    if type(like) is np.ndarray and like.ndim:
        return np.array(values, ndmin=like.ndim + (type(values) is tuple))
    return np.asarray(values)


@lru_cache(maxsize=8)
def places(size: int, dtype: Any) -> np.ndarray[Any, Any]:
    """Return the read-only array 0, 1, …, size − 1."""
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
    if type(label) is np.ndarray:
        return label.size == 1 and label.dtype.kind in "iu"
    if not is_torch(label) or label.device.type != "cpu" or label.numel() != 1:
        return False
    torch = sys.modules["torch"]
    return label.dtype in {torch.int64, torch.int32}
