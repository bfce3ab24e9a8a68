"""What levels share that move the threshold itself: its first value and its unit, learned from calibration scores."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from conformal_core._rank import rank
from conformal_core._state import State, read_count, read_floats, read_number
from conformal_core.level.base import Level

SMALLEST = math.ulp(0.0)
"""The smallest positive number."""


class UnitLevel(Level):
    """A level that moves the threshold in units of the score, learned from calibration scores before the first update.

    A subclass defines ``take_units``, calls ``_counts`` in each update, and adds ``_saved`` to its state.
    """

    def __init__(self) -> None:
        self._calibration: list[float] = []
        self._steps = 0

    @abstractmethod
    def take_units(self, scores: Sequence[float], /) -> None:
        """Set what was not given from all calibration scores, at least one."""

    def calibrate(self, scores: Sequence[float], /) -> None:
        """Learn the first threshold and the unit of its steps, where they were not given, before the first update."""
        if not self._steps and len(scores):
            self._calibration.extend(scores)
            self.take_units(self._calibration)

    def _counts(self) -> None:
        """Count an update; what calibration has told is settled from the first on."""
        self._calibration.clear()
        self._steps += 1

    def _saved(self) -> State:
        return {"steps": self._steps, "calibration": np.asarray(self._calibration, dtype=np.float64)}

    def _load_saved(self, state: State) -> None:
        steps, calibration = read_count(state, "steps"), read_floats(state, "calibration")
        self._steps, self._calibration = steps, calibration.tolist()


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


def known(name: str, value: float | None, level: Level) -> float:
    """Return what was given or learned; refuse to go on without it."""
    if value is None:
        rule = (
            "must be given, or learned by calibrate() before the first prediction, from scores that are not all equal"
        )
        raise ValueError(f"{name} of {type(level).__name__} {rule}")
    return value
