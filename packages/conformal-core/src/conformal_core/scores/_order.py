"""Rows in descending order, and values shared by tied labels."""

from typing import Any

import numpy as np

Array = Any


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
