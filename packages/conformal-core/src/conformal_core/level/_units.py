"""What levels share that move the threshold itself: its first value and its unit, learned from calibration scores."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from fractions import Fraction

from conformal_core._rank import rank
from conformal_core._state import State, read_number
from conformal_core.level.base import ThresholdLevel

SMALLEST = math.ulp(0.0)
"""The smallest positive number."""


class UnitLevel(ThresholdLevel):
    """A level that moves the threshold in units of the score, given or learned from calibration scores.

    A subclass defines ``take_units``, and counts its updates in ``_steps``.
    """

    def __init__(self) -> None:
        self._steps = 0

    @abstractmethod
    def take_units(self, scores: Sequence[float], /) -> None:
        """Set what was not given from all calibration scores, at least one."""

    def calibrate(self, scores: Sequence[float], /) -> None:
        """Restart, and learn the first threshold and the unit of its steps, where they were not given."""
        self.reset()
        if len(scores):
            self.take_units(scores)


def read_learned(state: State, key: str, given: float | None, *, least: float = -math.inf) -> float | None:
    """Return a number of a state, or None where it was neither given nor learned yet."""
    if state[key] is None and given is None and not state["steps"]:
        return None
    return read_number(state, key, least=least)


def first_threshold(scores: Sequence[float], alpha: Fraction) -> float:
    """Return the conformal quantile of calibration scores, or the largest score where they are too few for it."""
    return sorted(scores)[min(rank(len(scores), alpha), len(scores)) - 1]


def spread(scores: Sequence[float], alpha: Fraction) -> float | None:
    """Return how far the first threshold lies above the smallest score: the unit in which a level moves it.

    The range of the scores where that is 0, because most scores are equal; None where all of them are.
    """
    return first_threshold(scores, alpha) - min(scores) or max(scores) - min(scores) or None


def given_or(given: float | None, learned: float | None) -> float | None:
    """Return what was given, or else what was learned."""
    return learned if given is None else given


def known(name: str, value: float | None, level: ThresholdLevel) -> float:
    """Return what was given or learned; refuse to go on without it."""
    if value is None:
        rule = (
            "must be given, or learned by calibrate() before the first prediction, from scores that are not all equal"
        )
        raise ValueError(f"{name} of {type(level).__name__} {rule}")
    return value
