"""Levels that move the threshold: its first value and step size, learned from calibration scores."""

import math
from abc import abstractmethod
from collections.abc import Sequence

from conformal_core._rank import rank
from conformal_core._settings import Saved
from conformal_core._state import State, read_number
from conformal_core.level.base import ThresholdLevel

SMALLEST = math.ulp(0.0)  # positive number


class UnitLevel(Saved, ThresholdLevel):
    """A level that moves the threshold in units of the score, given or learned from calibration scores.

    A subclass defines ``take_units``, and counts its updates in ``_steps``.
    """

    def __init__(self) -> None:
        self._steps = 0

    @abstractmethod
    def take_units(self, scores: Sequence[float], /) -> None:
        """Set the units that were not given from calibration scores, at least one."""

    def calibrate(self, scores: Sequence[float], /) -> None:
        """Restart, and learn the first threshold and its step size unless they were given."""
        self.reset()
        if len(scores):
            self.take_units(scores)

    def _known(self, name: str, value: float | None) -> float:
        """Return a value that was given or learned, or raise ValueError."""
        if value is None:
            cure = "learned by calibrate() before the first prediction, from scores that are not all equal"
            raise ValueError(f"{name} of {type(self).__name__} must be given, or {cure}")
        return value

    def _first(self, scores: Sequence[float]) -> float:
        """Return the conformal quantile of calibration scores, or the largest score if they are too few."""
        return sorted(scores)[min(rank(len(scores), self.alpha), len(scores)) - 1]

    def _spread(self, scores: Sequence[float]) -> float | None:
        """Return the distance of the first threshold from the smallest score, the unit in which a level moves it.

        If that is 0 because most scores are equal, return the range of the scores; if all are equal, None.
        """
        return self._first(scores) - min(scores) or max(scores) - min(scores) or None


def read_learned(state: State, key: str, given: float | None, *, least: float = -math.inf) -> float | None:
    """Return a number of a state, or None if it was neither given nor learned."""
    if state[key] is None and given is None and not state["steps"]:
        return None
    return read_number(state, key, least=least)


def given_or(given: float | None, learned: float | None) -> float | None:
    """Return the given value if there is one, or else the learned one."""
    return learned if given is None else given
