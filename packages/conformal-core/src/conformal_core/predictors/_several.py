"""Sets and intervals of one miscoverage or of several at once, from the same scores."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace
from conformal_core.sets import with_top

Array = Any
Levels = Fraction | tuple[Fraction, ...]


def at_each(result: Callable[[Any], Array], values: Sequence[Any]) -> Array:
    """Return the results of several values in one array (A, ...)."""
    results = [result(value) for value in values]
    return array_namespace(results=results[0]).stack(results)


def sets_at_each(score: Any, probs: Array, qhats: Sequence[Any], *, nonempty: bool, check: bool | None) -> Array:
    """Return the sets (A, ..., K) of several thresholds; they are nested, because a randomized score draws once."""
    draw = {"u": score.draw(probs, None, check)} if getattr(score, "randomized", False) else {}
    return at_each(lambda qhat: score.sets(probs, qhat, nonempty=nonempty, check=check, **draw), qhats)


def smoothed_sets(p: Array, scores: Array, levels: Levels, *, nonempty: bool) -> Array:
    """Return the sets (..., K), or (A, ..., K), of the labels whose p-value exceeds each level."""
    if isinstance(levels, tuple):
        return at_each(lambda level: smoothed_sets(p, scores, level, nonempty=nonempty), levels)
    inside = p > float(levels)
    return with_top(inside, scores, array_namespace(scores=scores)) if nonempty else inside


def written(levels: Any) -> Any:
    """Return an array of levels as a list, which ``repr`` shows as source, and anything else itself."""
    return list(levels) if isinstance(levels, np.ndarray) and levels.ndim else levels


def check_one_alpha(name: str, predictor: Any) -> None:
    """Raise TypeError for a predictor of several miscoverages, whose results have an axis that others lack."""
    levels = getattr(predictor, "_alpha", None)
    if isinstance(levels, tuple):
        raise TypeError(f"{name} must have one alpha, got {len(levels)}: make one of each")
