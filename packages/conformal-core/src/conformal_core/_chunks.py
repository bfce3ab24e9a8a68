"""Row-wise functions applied in chunks, which bounds memory and uses the cache and all cores of a host.

Host tensors are processed as numpy views of the same memory, because numpy sorts rows many times faster.
"""

import math
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, from_host, host_view, is_tracing

Array = Any

# Elements per chunk: a few arrays of them fit into the cache of a core, or into a fraction of device memory. Threads
# synchronise between operations, so their chunks are larger and fewer.
_HOST_CHUNK = 1 << 17
_THREAD_CHUNK = 1 << 19
_DEVICE_CHUNK = 1 << 28

_pools = threading.local()


def map_rows(function: Callable[..., Array], rows: Array, *others: Array | None, threads: bool = False) -> Array:
    """Apply a function to ``rows`` (..., K) and arrays with one value per row (...), in chunks of rows.

    The function receives numpy arrays if ``rows`` is on a host; the result has the library of ``rows``. ``threads``
    distributes the chunks of a host array over the cores, which helps if rows are sorted: numpy then releases the GIL.
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
    """Uninitialised array that a thread reuses, by name, for its next chunk.

    Allocating memory costs more than the arithmetic on it. Outside :func:`map_rows` arrays are not reused.
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
