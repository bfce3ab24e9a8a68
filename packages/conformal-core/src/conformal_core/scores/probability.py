"""Scores of the probability or the rank of the label: LAC, Margin and SAPS."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from conformal_core._arrays import array_namespace, device
from conformal_core._convert import places
from conformal_core.checks import check_nonnegative
from conformal_core.scores._rows import descending, over_ties, to_labels
from conformal_core.scores.base import ClassificationScore
from conformal_core.sets import take_label

Array = Any


@dataclass(frozen=True, kw_only=True, repr=False)
class LAC(ClassificationScore):
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


@dataclass(frozen=True, kw_only=True, repr=False)
class Margin(ClassificationScore):
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
        if type(probs) is np.ndarray and probs.ndim == 1:
            return _margins_of_row(probs, probs if labels is None else probs[labels])
        xp = array_namespace(probs=probs)
        top = xp.max(probs, axis=-1, keepdims=True)
        at_top = probs == top
        # The rival of the top label is the runner-up: the top itself where two tie.
        runner_up = xp.max(xp.where(at_top, xp.zeros_like(probs), probs), axis=-1, keepdims=True)
        runner_up = xp.where(xp.sum(xp.astype(at_top, xp.int64), axis=-1, keepdims=True) > 1, top, runner_up)
        own = probs if labels is None else take_label(probs, labels)[..., None]
        margin = xp.where(own == top, runner_up, top) - own
        return margin if labels is None else margin[..., 0]


@dataclass(frozen=True, kw_only=True, repr=False)
class SAPS(ClassificationScore):
    """Sorted adaptive prediction sets: u · p_max for a top label, p_max + (rank − 2 + u) · weight for the others.

    The rank is one-based: one more than the number of strictly more probable labels.

    Parameters
    ----------
    weight
        Increment per rank, at least 0.
    randomized
        Whether u is a uniform draw for each row; otherwise u = 1.
    normalized
        Whether rows must sum to 1.

    Raises
    ------
    ValueError
        If ``weight`` is negative or not finite.

    Notes
    -----
    Huang et al., *Conformal prediction for deep classifier via label ranking* (2024). The largest score is at most
    p_max + (K − 1) · weight.

    Examples
    --------
    >>> import numpy as np
    >>> SAPS(weight=0.25)(np.asarray([0.3, 0.5, 0.2]))
    array([0.75, 0.5 , 1.  ])
    """

    weight: float = 0.2
    randomized: bool = False
    normalized: bool = True
    sorts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_nonnegative("weight", self.weight)
        if isinstance(self.weight, np.generic):
            object.__setattr__(self, "weight", self.weight.item())

    def compute(self, probs: Array, labels: Array | int | None, u: Array | None) -> Array:
        """Largest probability plus a step for each rank."""
        if type(probs) is np.ndarray and probs.ndim == 1:
            return self._of_row(probs, labels, u)
        xp = array_namespace(probs=probs)
        top = xp.max(probs, axis=-1, keepdims=True)
        u = xp.ones_like(top) if u is None else u[..., None]
        if labels is None:
            ordered, order = descending(probs, xp)
            places = xp.broadcast_to(xp.arange(probs.shape[-1], device=device(probs)), probs.shape)
            better = to_labels(over_ties(ordered, places, xp, last=False), order, xp)
        else:
            own = take_label(probs, labels)[..., None]
            better = xp.sum(xp.astype(probs > own, xp.int64), axis=-1, keepdims=True)
        deep = top + (xp.astype(better - 1, probs.dtype) + u) * self.weight
        scores = xp.where(better == 0, u * top, deep)
        return scores if labels is None else scores[..., 0]

    def compute_sets(self, probs: Array, qhat: Array | float, u: Array | None) -> Array:
        """Return the sets of all classes less deep than the first rank that does not fit."""
        if type(probs) is not np.ndarray or probs.ndim > 1:
            return super().compute_sets(probs, qhat, u)
        ascending = np.sort(probs)
        scores = self._at(places(probs.size, probs.dtype) - 1.0, ascending[-1], u)
        scores[0] = _part(ascending[-1], u)
        fit = np.count_nonzero(scores <= qhat)  # scores never fall from one rank to the next
        return probs >= (ascending[-fit] if fit else math.inf)

    def _of_row(self, probs: Array, label: Array | int | None, u: Array | None) -> Array:
        top = probs[probs.argmax()]
        if label is not None:
            better = np.count_nonzero(probs > probs[label])
            return self._at(probs.dtype.type(better - 1), top, u) if better else _part(top, u)
        below_first = probs.size - 1 - np.sort(probs).searchsorted(probs, "right")
        deep = self._at(below_first.astype(probs.dtype), top, u)
        return np.where(below_first < 0, _part(top, u), deep)

    def _at(self, ranks: Array, top: Array, u: Array | None) -> Array:
        """Scores at ranks below the first, of which the highest is 0."""
        return top + (ranks + (top.dtype.type(1.0) if u is None else u)) * self.weight


def _part(top: Array, u: Array | None) -> Array:
    return top if u is None else u * top


def _margins_of_row(probs: Array, own: Array) -> Array:
    """Margins of labels with the probabilities ``own`` in a row (K,)."""
    first = probs.argmax()
    top, others = probs[first], probs.copy()
    others[first] = 0.0
    runner_up = others[others.argmax()]  # the top itself if two tie
    return np.where(own == top, runner_up, top) - own
