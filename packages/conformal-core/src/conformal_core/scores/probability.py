"""Scores of the probability of the label: LAC and Margin."""

from dataclasses import dataclass
from typing import Any

from conformal_core._arrays import array_namespace
from conformal_core.scores.base import Score
from conformal_core.sets import take_label

Array = Any


@dataclass(frozen=True)
class LAC(Score):
    """Least ambiguous classifier score, s(x, y) = 1 − p(y | x), in [0, 1].

    Gives the smallest sets on average; a set can be empty if the model is unsure.

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

    def compute(self, probs: Array, labels: Array | int | None, u: Array | None) -> Array:
        """One minus the probability."""
        return 1.0 - (probs if labels is None else take_label(probs, labels))


@dataclass(frozen=True)
class Margin(Score):
    """Margin score, the largest probability among the other labels minus the label's own, in [−1, 1].

    Parameters
    ----------
    normalized
        Whether rows must sum to 1. False accepts any finite numbers that are not negative.

    Notes
    -----
    Johansson et al., *Model-agnostic nonconformity functions for conformal classification* (2017). With one class there
    is no other label, and its probability counts as 0.

    Examples
    --------
    >>> import numpy as np
    >>> Margin()(np.asarray([0.5, 0.25, 0.25]))
    array([-0.25,  0.25,  0.25])
    """

    normalized: bool = True

    def compute(self, probs: Array, labels: Array | int | None, u: Array | None) -> Array:
        """Largest other probability minus the own."""
        xp = array_namespace(probs=probs)
        top = xp.max(probs, axis=-1, keepdims=True)
        at_top = probs == top
        # The rival of the top label is the runner-up: the top itself where two tie.
        runner_up = xp.max(xp.where(at_top, xp.zeros_like(probs), probs), axis=-1, keepdims=True)
        runner_up = xp.where(xp.sum(xp.astype(at_top, xp.int64), axis=-1, keepdims=True) > 1, top, runner_up)
        own = probs if labels is None else take_label(probs, labels)[..., None]
        margin = xp.where(own == top, runner_up, top) - own
        return margin if labels is None else margin[..., 0]
