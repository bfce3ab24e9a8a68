"""Strongly adaptive online conformal prediction."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from conformal_core._state import State, read_count, read_floats, read_number, refuse_if
from conformal_core.checks import check_count
from conformal_core.level.base import SMALLEST, Threshold, UnitLevel, as_positive, given_or, read_learned
from conformal_core.memory.base import Memory
from conformal_core.quantile import Alpha, miscoverage

Numbers = NDArray[np.float64]
Number = TypeVar("Number", float, Numbers)

_EXPIRES = 5  # column of the learners; those before it are saved, those from it on follow from them


class SAOCP(UnitLevel):
    """Strongly adaptive online conformal prediction: short-lived learners of the threshold, combined by betting.

    A learner is born at every step t and lives lifetime · 2ᵏ steps, where 2ᵏ is the largest power of two that divides
    t. Each runs scale-free online gradient descent (SF-OGD) on the pinball loss; the threshold is their mean, weighted
    by coin betting.

    Parameters
    ----------
    alpha
        Miscoverage, in (0, 1).
    scale
        Length D > 0 of an interval of all expected scores, and first threshold: the largest score, if none is negative.
        If None, the length of the interval of 0 and all calibration scores, starting at their largest. Larger scores do
        no harm.
    lifetime
        Lifetime of the shortest-lived learner in steps, at least 1.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number in its range.

    Notes
    -----
    Guarantee, for scores in an interval of length D that contains the first threshold, and labels that arrive before
    the next prediction: on every k steps in a row within the first T the pinball loss exceeds that of the best constant
    threshold by at most ``15 D √(k (log T + 1))``. Bhatnagar, Wang, Xiong and Bai, *Improved online conformal
    prediction via strongly adaptive online learning* (2023), proposition 4.1. O(log t) per step.

    Long-run coverage does **not** tend to 1 − α: on i.i.d. uniform scores it is .92, .87 and .77 for α = .05, .1 and
    .2. Use :class:`ACI` if the long-run fraction of misses must be α.

    Examples
    --------
    >>> level = SAOCP(alpha=0.1, scale=1.0)
    >>> for _ in range(200):
    ...     level.update(0.5, level.threshold())
    >>> 0.5 <= level.threshold() < 0.7
    True
    """

    _kind, _saved = "SAOCP", ("alpha", "scale", "lifetime")
    _learners: Numbers
    _latest: tuple[tuple[float, float], ...] | None  # parts of the last threshold, None after an update

    def __init__(self, *, alpha: Alpha, scale: float | None = None, lifetime: int = 8) -> None:
        super().__init__()
        self.alpha: Fraction = miscoverage(alpha)
        self._alpha = float(self.alpha)
        self._given_scale = None if scale is None else float(as_positive("scale", scale))
        self._scale = self._top = self._given_scale
        self._lifetime = check_count("lifetime", lifetime)
        self._start()

    def threshold(self, memory: Memory | None = None, /) -> float:
        """Return the weighted mean of the learners' thresholds; its parts are their birthdays and thresholds."""
        self._known("scale", self._scale)
        threshold = Threshold(_combined(self._learners), self._learners[:, :2].tolist())
        self._latest = threshold.parts
        return threshold

    def update(self, score: float, threshold: float, memory: Memory | None = None, /) -> None:
        """Update the learners and their bets and replace expired ones; TypeError for a threshold of another level."""
        scale = self._known("scale", self._scale)
        if not isinstance(threshold, Threshold):
            raise TypeError(f"threshold must be one that SAOCP.threshold returned, got {threshold!r}")
        alpha, steps = self._alpha, self._steps + 1
        alive = (self._learners[:, _EXPIRES] > float(steps)).nonzero()[0]
        learners = np.empty((len(alive) + 1, 8))
        kept = self._learners.take(alive, axis=0, out=learners[:-1], mode="clip")  # "raise" would copy twice
        born, own, squares, gains, bets, _, _, weights = kept.T
        issued = own if threshold.parts is self._latest else _thresholds_of(kept, threshold)
        residual = score - issued
        relief = (_pinball(score - float(threshold), alpha) - _pinball(residual, alpha)) / scale
        gain = np.minimum(np.maximum(relief, -np.heaviside(weights, 0.0)), 1.0)  # at least -1, or 0 without a weight
        gains += gain
        bets += weights * gain
        gradient = alpha - np.heaviside(residual, 0.0)
        squares += gradient**2
        own -= scale / math.sqrt(3) * gradient / np.sqrt(squares)
        np.divide(gains * (1.0 + bets), float(steps + 1) - born, out=weights)
        learners[-1] = self._newborn(steps + 1, _combined(kept) if len(kept) else self._known("scale", self._top))
        self._learners, self._steps, self._latest = learners, steps, None

    def take_units(self, scores: Sequence[float], /) -> None:
        """Set D to the length of the interval of 0 and all scores, and start at the largest."""
        length = max(*scores, 0.0) - min(*scores, 0.0) or None
        self._top = given_or(self._given_scale, max(scores) if length else None)
        self._scale = given_or(self._given_scale, length)
        self._start()

    def _learned(self) -> State:
        return {
            "length": self._scale,
            "first": self._top,
            "learners": self._learners[:, :_EXPIRES].copy(),
            "steps": self._steps,
        }

    def _restore(self, state: State) -> None:
        scale, steps = read_learned(state, "length", self._given_scale, least=SMALLEST), read_count(state, "steps")
        first = None if scale is None else read_number(state, "first")
        learners = read_floats(state, "learners", columns=5)
        born, _, squares, _, _ = learners.T
        if scale is None:
            wrong = bool(len(born))
        else:
            wrong = not len(born) or born.min() < 1 or born.max() > steps + 1 or (born % 1).any() or (squares < 0).any()
        refuse_if(wrong, state, f"learners born in 1..{steps + 1}")
        self._steps, self._scale, self._top = steps, scale, first
        self._keep(learners)

    def _start(self) -> None:
        self._keep(np.empty((0, 5)))
        if self._top is not None:
            self._learners = np.asarray([self._newborn(self._steps + 1, self._top)])

    def _keep(self, saved: Numbers) -> None:
        """Set the living learners from a state, a row each: born, threshold, Σ gradient², Σ gain, Σ weight · gain.

        What follows from these is added: the number of updates after which a learner expires, its prior, its weight.
        """
        born, _, _, gains, bets = saved.T
        age = self._steps + 1 - born
        weights = np.where(age > 0, gains * (1.0 + bets) / np.maximum(age, 1), 0.0)  # coin betting
        fixed = [self._newborn(int(b), 0.0)[_EXPIRES:-1] for b in born.tolist()]
        self._learners = np.column_stack([saved, np.asarray(fixed, dtype=np.float64).reshape(-1, 2), weights])
        self._latest = None

    def _newborn(self, born: int, start: float) -> tuple[float, ...]:
        expires, prior = born - 1 + self._lifetime * (born & -born), 1.0 / (float(born) ** 2 * born.bit_length())
        return (born, start, 0.0, 0.0, 0.0, expires, prior, 0.0)


def _thresholds_of(learners: Numbers, issued: Threshold) -> Numbers:
    """Return the thresholds of the learners when a set was issued.

    A learner added since is compared at the threshold it would have started from.
    """
    then = dict(issued.parts)
    return np.asarray([then.get(birthday, float(issued)) for birthday in learners[:, 0].tolist()])


def _combined(learners: Numbers) -> float:
    """Return the mean of the thresholds, weighted by prior and weight, or by the prior if no weight is positive."""
    priors = learners[:, _EXPIRES + 1]
    shares = priors * np.maximum(learners[:, -1], 0.0)
    total = np.add.reduce(shares)
    if not total > 0:
        shares = priors.copy()
        total = np.add.reduce(shares)
    return float((shares / total).dot(learners[:, 1]))


def _pinball(residual: Number, alpha: float) -> Number:
    over, under = (1 - alpha) * residual, -alpha * residual
    return max(over, under) if isinstance(residual, float) else np.maximum(over, under)
