"""Work on many rows in chunks: little memory, and on a host the cache and all cores.

Host tensors are worked on as numpy views of the same memory, where sorting rows is many times faster. numpy lets other
threads run while it computes, so chunks of a large host array are shared among the cores.
"""

import math
import os
from collections.abc import Callable, Iterable
from typing import Any

from conformal_core._arrays import array_namespace, from_host, host_view, is_tracing

Array = Any

# Elements worked on at a time: a few arrays of them fit in a core's cache on a host, and in a corner of a device.
_HOST_CHUNK = 1 << 17
_DEVICE_CHUNK = 1 << 28


def map_rows(function: Callable[..., Array], rows: Array, *others: Array | None) -> Array:
    """Apply a function to ``rows`` (..., K) and arrays of one value a row (...), a chunk of rows at a time.

    The function gets numpy arrays where ``rows`` lives on a host, and the result goes back to the library of ``rows``.
    """
    if is_tracing(rows):
        return function(rows, *others)
    view = host_view(rows)
    arrays = (rows, *others) if view is None else (view, *(host_view(other) for other in others))
    lead, size = rows.shape[:-1], math.prod(rows.shape)
    chunk = _DEVICE_CHUNK if view is None else _HOST_CHUNK
    if size <= chunk:
        result = function(*arrays)
    else:
        xp = array_namespace(rows=arrays[0])
        flat = [x if x is None else xp.reshape(x, (-1, *x.shape[len(lead) :])) for x in arrays]
        step = max(1, chunk // rows.shape[-1])
        starts = range(0, math.prod(lead), step)
        calls = ([x if x is None else x[i : i + step, ...] for x in flat] for i in starts)
        parts = [function(*call) for call in calls] if view is None else _on_threads(function, calls)
        result = xp.concat(parts)
        result = xp.reshape(result, (*lead, *result.shape[1:]))
    return result if view is None else from_host(result, rows)


def _on_threads(function: Callable[..., Array], calls: Iterable[list[Array]]) -> list[Array]:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (import time, for large batches only)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda call: function(*call), calls))
