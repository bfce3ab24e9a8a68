"""APS and RAPS of one numpy row: the sums that many rows take, in fewer operations."""

import math
from functools import lru_cache
from typing import Any

import numpy as np

Array = Any

NO_MASS = 2.0
"""Fraction of a class without mass, above every other: it comes last."""


def row_scores(  # the parts of one formula
    probs: Array, label: Array | int | None, u: Array | None, penalty: float, free_ranks: float
) -> Array:
    """Scores of all labels (K,), or of one, for a row (K,)."""
    ordered, mass, total = _masses(probs)
    ascending = ordered[probs.size - 1 :: -1]
    if label is None:
        own, rank = probs, probs.size - ascending.searchsorted(probs, "left")
    else:
        own = probs[label]
        rank = np.count_nonzero(probs >= own)
    through = mass[rank - 1]
    if u is not None:
        better = probs.size - ascending.searchsorted(own, "right")
        less = np.where(better > 0, mass[better - 1], probs.dtype.type(0.0))
        part = less + u * (through - less)
        # Rounding must not raise the randomized score above the deterministic one.
        through = np.where(part < through, part, through)
    fraction = np.where(own > 0, through / total, probs.dtype.type(NO_MASS))
    return fraction + _penalties(probs.size, probs.dtype, penalty, free_ranks)[rank - 1] if penalty else fraction


def row_set(probs: Array, qhat: float, penalty: float, free_ranks: float) -> Array:
    """Prediction set (K,) of a row (K,): all classes more probable than the first that does not fit."""
    ordered, mass, total = _masses(probs)
    scores, no_mass, qhat = mass / total, probs.dtype.type(NO_MASS), probs.dtype.type(qhat)
    if penalty:
        penalties = _penalties(probs.size, probs.dtype, penalty, free_ranks)
        scores, no_mass = scores[: probs.size] + penalties, no_mass + penalties[-1]
    if qhat >= no_mass:
        return probs > -1.0
    fit = np.count_nonzero(scores <= qhat)  # scores never fall from one rank to the next
    return probs > (ordered[fit] if fit < probs.size else 0.0)


@lru_cache(maxsize=8)
def _penalties(classes: int, dtype: np.dtype[Any], penalty: float, free_ranks: float) -> Array:
    """Return the penalty of each rank, (K,)."""
    penalties = penalty * np.maximum(np.arange(1, classes + 1) - free_ranks, 0).astype(dtype)
    penalties.flags.writeable = False
    return penalties


def _masses(probs: Array) -> tuple[Array, Array, Array]:
    """Probabilities from the largest down, padded with zeros; the mass down to each; the mass of the row, or 1."""
    classes = probs.size
    width = math.isqrt(classes - 1) + 1
    count = -(-classes // width)
    ordered = np.zeros(count * width, dtype=probs.dtype)
    ordered[:classes] = np.sort(probs)[::-1]
    mass = np.add.accumulate(ordered.reshape(count, width), axis=1)
    ends = np.add.accumulate(mass[:, -1])
    mass[1:] += ends[:-1, None]
    total = ends[-1]
    return ordered, mass.reshape(-1), total if total > 0 else probs.dtype.type(1.0)
