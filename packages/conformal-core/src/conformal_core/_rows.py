"""One row in the forms in which a loop over a stream passes it, and many rows in chunks."""

import math
import os
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, from_host, host_view, is_torch, is_tracing
from conformal_core.checks import is_distribution_row

Array = Any

# Elements per chunk: a few arrays of them fit into the cache of a core, or into a fraction of device memory. Threads
# synchronise between operations, so their chunks are larger and fewer.
_HOST_CHUNK = 1 << 17
_THREAD_CHUNK = 1 << 19
_DEVICE_CHUNK = 1 << 28
_pools = threading.local()


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
    if type(label) is np.ndarray:
        return label.size == 1 and label.dtype.kind in "iu"
    if not is_torch(label) or label.device.type != "cpu" or label.numel() != 1:
        return False
    torch = sys.modules["torch"]
    return label.dtype in {torch.int64, torch.int32}


def map_rows(function: Callable[..., Array], rows: Array, *others: Array | None, threads: bool = False) -> Array:
    """Apply a function to ``rows`` (..., K) and arrays with one value per row (...), in chunks of rows.

    The function receives numpy arrays if ``rows`` is on a host; the result has the library of ``rows``. ``threads``
    distributes the chunks over the cores, for functions that sort: numpy then releases the GIL.
    """
    if type(rows) is np.ndarray and rows.size <= (_THREAD_CHUNK if threads else _HOST_CHUNK):
        return np.asarray(function(rows, *others))  # numpy makes a scalar of what has no axes
    if is_tracing(rows):
        return function(rows, *others)
    view = host_view(rows)
    arrays = (rows, *others) if view is None else (view, *(host_view(other) for other in others))
    lead, size = rows.shape[:-1], math.prod(rows.shape)
    chunk = _DEVICE_CHUNK if view is None else _THREAD_CHUNK if threads else _HOST_CHUNK
    if size <= chunk:
        result = function(*arrays)
        return result if view is None else from_host(result, rows)
    xp = array_namespace(rows=arrays[0])
    flat = [x if x is None else xp.reshape(x, (-1, *x.shape[len(lead) :])) for x in arrays]
    step = max(1, chunk // rows.shape[-1])
    count = math.prod(lead)

    def part(start: int, end: int) -> Array:
        return function(*(x if x is None else x[start:end, ...] for x in flat))

    if view is not None:
        result = _gather(part, count, step, threads=threads)
    else:
        result = xp.concat([part(start, start + step) for start in range(0, count, step)])
    result = xp.reshape(result, (*lead, *result.shape[1:]))
    return result if view is None else from_host(result, rows)


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Uninitialised array that a thread of :func:`map_rows` reuses, by name, for its next chunk.

    Allocating memory costs more than the arithmetic on it.
    """
    pool: dict[str, np.ndarray[Any, Any]] | None = getattr(_pools, "pool", None)
    if pool is None:
        return np.empty(shape, dtype=dtype)
    size = math.prod(shape)
    if name not in pool or pool[name].size < size or pool[name].dtype != dtype:
        pool[name] = np.empty(size, dtype=dtype)
    return pool[name][:size].reshape(shape)


def _gather(part: Callable[[int, int], Array], count: int, step: int, *, threads: bool) -> Array:
    """Copy the parts into one array, each while it is in the cache."""
    first = part(0, 1)
    result = np.empty((count, *first.shape[1:]), dtype=first.dtype)

    def fill(starts: range) -> None:
        _pools.pool = {}
        try:
            for start in starts:
                result[start : start + step] = part(start, start + step)
        finally:
            _pools.pool = None

    workers = min(os.cpu_count() or 1, -(-count // step)) if threads else 1
    if workers > 1:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (import time, for large batches only)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(fill, [range(i * step, count, workers * step) for i in range(workers)]))
    else:
        fill(range(0, count, step))
    return result
