"""Operations on rows: in chunks, in descending order, with values shared by tied labels."""

import math
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from conformal_core._arrays import array_namespace, from_host, host_view, is_tracing

Array = Any

# Elements per chunk: a few arrays of them fit into the cache of a core, or into a fraction of device memory. Threads
# synchronise between operations, so their chunks are larger and fewer.
_HOST_CHUNK = 1 << 17
_THREAD_CHUNK = 1 << 19
_DEVICE_CHUNK = 1 << 28
_pools = threading.local()

NO_MASS = 2.0  # fraction of a class without mass, above every other: it comes last


def descending(probs: Array, xp: Any) -> tuple[Array, Array]:
    """Sort rows from the largest down; return them with the label at each place."""
    if isinstance(probs, np.ndarray):
        order = np.argsort(probs, axis=-1)[..., ::-1]
    else:
        order = xp.argsort(probs, axis=-1, descending=True, stable=False)
    return xp.take_along_axis(probs, order, axis=-1), order


def to_labels(values: Array, order: Array, xp: Any) -> Array:
    """Bring a value for each place back to the label that stands there."""
    if isinstance(values, np.ndarray):
        result = np.empty_like(values)
        np.put_along_axis(result, order, values, axis=-1)
        return result
    return xp.take_along_axis(values, xp.argsort(order, axis=-1, stable=False), axis=-1)


def over_ties(ordered: Array, values: Array, xp: Any, *, last: bool) -> Array:
    """Give all tied labels the value of the last, or the first, of them, in at most log₂ K rounds."""
    reach, classes = 1, ordered.shape[-1]
    while reach < classes:
        tied = ordered[..., :-reach] == ordered[..., reach:]
        if isinstance(tied, np.ndarray) and not tied.any():
            break
        if last:
            moved = xp.where(tied, values[..., reach:], values[..., :-reach])
            values = xp.concat([moved, values[..., -reach:]], axis=-1)
        else:
            moved = xp.where(tied, values[..., :-reach], values[..., reach:])
            values = xp.concat([values[..., :reach], moved], axis=-1)
        reach *= 2
    return values


class _Row(NamedTuple):
    ordered: Array  # probabilities, padded with zeros
    mass: Array  # sum down to each of them
    total: Array  # mass of the row, or 1
    penalties: Array | None  # of each rank, (K,)


def row_scores(probs: Array, label: Array | int | None, u: Array | None, penalty: float, free_ranks: float) -> Array:
    row = _sorted(probs, penalty, free_ranks)
    if label is not None:
        return _score(probs[label], probs, u, row)
    ascending = row.ordered[probs.size - 1 :: -1]
    rank = probs.size - ascending.searchsorted(probs, "left")
    through = row.mass[rank - 1]
    if u is not None:
        better = probs.size - ascending.searchsorted(probs, "right")
        less = np.where(better > 0, row.mass[better - 1], probs.dtype.type(0.0))
        # Rounding must not raise the randomized score above the deterministic one.
        through = np.minimum(less + u * (through - less), through)
    fraction = np.where(probs > 0, through / row.total, probs.dtype.type(NO_MASS))
    return fraction if row.penalties is None else fraction + row.penalties[rank - 1]


def row_set(probs: Array, qhat: float, u: Array | None, penalty: float, free_ranks: float) -> Array:
    """Prediction set (K,) of a row (K,): all classes more probable than the first that does not fit."""
    row = _sorted(probs, penalty, free_ranks)
    scores, no_mass, qhat = row.mass / row.total, probs.dtype.type(NO_MASS), probs.dtype.type(qhat)
    if row.penalties is not None:
        scores, no_mass = scores[: probs.size] + row.penalties, no_mass + row.penalties[-1]
    if qhat >= no_mass:
        return probs > -1.0
    fit = np.count_nonzero(scores <= qhat)  # scores never fall from one rank to the next
    bound = row.ordered[fit] if fit < probs.size else probs.dtype.type(0.0)
    if u is None or not _score(bound, probs, u, row) <= qhat:
        return probs > bound
    return probs >= bound  # a draw lowers the score to no less than that of the classes before, so one more fits


def _score(own: Array, probs: Array, u: Array | None, row: _Row) -> Array:
    rank = np.count_nonzero(probs >= own)
    through = row.mass[rank - 1]
    if u is not None:
        better = np.count_nonzero(probs > own)
        less = row.mass[better - 1] if better else probs.dtype.type(0.0)
        through = min(less + u * (through - less), through)
    fraction = through / row.total if own > 0 else probs.dtype.type(NO_MASS)
    return fraction if row.penalties is None else fraction + row.penalties[rank - 1]


@lru_cache(maxsize=8)
def _penalties(classes: int, dtype: np.dtype[Any], penalty: float, free_ranks: float) -> Array:
    penalties = penalty * np.maximum(np.arange(1, classes + 1) - free_ranks, 0).astype(dtype)
    penalties.flags.writeable = False
    return penalties


def _sorted(probs: Array, penalty: float, free_ranks: float) -> _Row:
    classes = probs.size
    width = math.isqrt(classes - 1) + 1
    count = -(-classes // width)
    ordered = np.zeros(count * width, dtype=probs.dtype)
    ordered[:classes] = np.sort(probs)[::-1]
    mass = np.add.accumulate(ordered.reshape(count, width), axis=1)
    ends = np.add.accumulate(mass[:, -1])
    mass[1:] += ends[:-1, None]
    total = ends[-1]
    penalties = _penalties(classes, probs.dtype, penalty, free_ranks) if penalty else None
    return _Row(ordered, mass.reshape(-1), total if total > 0 else probs.dtype.type(1.0), penalties)


def map_rows(function: Callable[..., Array], rows: Array, *others: Array | None, threads: bool = False) -> Array:
    """Apply a function to ``rows`` (..., K) and arrays with one value per row (...), in chunks of rows.

    It receives numpy arrays if ``rows`` is on a host. ``threads`` is for functions that sort: numpy then releases the
    GIL.
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
    """Uninitialised array that a thread of :func:`map_rows` reuses, by name, which is faster than a new one."""
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
