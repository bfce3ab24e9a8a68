"""Rows in descending order: values shared by tied labels, and cumulative sums of one row."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

Array = Any

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
    """Give all tied labels the value of the last, or the first, of them.

    The reach doubles each time, so log₂ K rounds do; on a host they end with the longest run of ties.
    """
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
