"""Scores that look at the label's own probability."""

from dataclasses import dataclass
from typing import Any

from conformal_core._checks import array_namespace, has_classes, is_distribution, is_floating, reads_values
from conformal_core.sets import take_label

Array = Any


def check_probabilities(probs: Array, *, normalized: bool = True, check: bool | None = None) -> Any:
    """Refuse what is not a row, or rows, of probabilities; return the array namespace."""
    xp = array_namespace(probs=probs)
    is_floating("probs", probs, xp)
    has_classes("probs", probs)
    if reads_values(probs, check):
        is_distribution("probs", probs, xp, normalized=normalized)
    return xp


@dataclass(frozen=True, slots=True)
class LAC:
    """Least ambiguous classifier score, s(x, y) = 1 − p(y | x).

    The smallest sets on average; they can be empty where the model is unsure.

    Parameters
    ----------
    normalized
        Whether rows must sum to 1. False accepts any finite numbers that are not negative.

    Notes
    -----
    Sadinle, Lei and Wasserman, *Least ambiguous set-valued classifiers with bounded error levels* (2019).

    Examples
    --------
    >>> import numpy as np
    >>> LAC()(np.asarray([0.5, 0.25, 0.25]))
    array([0.5 , 0.75, 0.75])
    """

    normalized: bool = True

    def __call__(self, probs: Array, labels: Array | None = None, /, *, check: bool | None = None) -> Array:
        """Score all labels, (..., K), or the given labels, (...)."""
        check_probabilities(probs, normalized=self.normalized, check=check)
        return 1.0 - (probs if labels is None else take_label(probs, labels, check=check))


@dataclass(frozen=True, slots=True)
class Margin:
    """Margin score, the largest probability of the other labels minus the label's own.

    Parameters
    ----------
    normalized
        Whether rows must sum to 1. False accepts any finite numbers that are not negative.

    Notes
    -----
    Johansson et al., *Model-agnostic nonconformity functions for conformal classification* (2017). Range [−1, 1]. With one class
    the rival's probability counts as 0.

    Examples
    --------
    >>> import numpy as np
    >>> Margin()(np.asarray([0.5, 0.25, 0.25]))
    array([-0.25,  0.25,  0.25])
    """

    normalized: bool = True

    def __call__(self, probs: Array, labels: Array | None = None, /, *, check: bool | None = None) -> Array:
        """Score all labels, (..., K), or the given labels, (...)."""
        xp = check_probabilities(probs, normalized=self.normalized, check=check)
        top = xp.max(probs, axis=-1, keepdims=True)
        if probs.shape[-1] == 1:
            second = xp.zeros_like(top)
        else:
            # The rival of a top class is the second largest value, which equals the top where two classes tie.
            tops = xp.sum(xp.astype(probs == top, xp.int64), axis=-1, keepdims=True)
            below = xp.max(xp.where(probs == top, xp.zeros_like(probs), probs), axis=-1, keepdims=True)
            second = xp.where(tops > 1, top, below)
        if labels is None:
            return xp.where(probs == top, second, top) - probs
        own = take_label(probs, labels, check=check)
        return xp.where(own == top[..., 0], second[..., 0], top[..., 0]) - own
