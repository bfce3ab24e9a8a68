"""Interface of levels, which set the threshold of the next prediction set."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Self

from conformal_core._settings import Resettable, Saved
from conformal_core._state import State, read_number
from conformal_core.memory.base import Memory
from conformal_core.quantile import Alpha, as_fraction, rank

SMALLEST = math.ulp(0.0)  # positive number


class Threshold(float):
    """A threshold combined from those of several learners, which it keeps until the label is known.

    Parameters
    ----------
    value
        The threshold itself.
    parts
        For each learner, a tag by which its level recognises it, and its threshold.
    """

    parts: tuple[tuple[float, float], ...]

    def __new__(cls, value: float, parts: Iterable[tuple[float, float]]) -> Self:
        """Return a float with parts."""
        threshold = super().__new__(cls, value)
        threshold.parts = tuple(parts)
        return threshold

    def __getnewargs__(self) -> tuple[float, tuple[tuple[float, float], ...]]:  # type: ignore[override]
        """Return the arguments of a copy."""
        return float(self), self.parts

    def mapped(self, function: Callable[[float], float]) -> "Threshold":
        """Return a copy with ``function`` applied to all thresholds."""
        return Threshold(function(float(self)), ((tag, function(own)) for tag, own in self.parts))


class Level(Resettable, ABC):
    """Rule that sets the threshold of the next prediction set.

    A new level subclasses :class:`QuantileLevel` or :class:`ThresholdLevel` and defines the abstract methods. It keeps
    the arguments of its constructor as attributes of the same name (or with ``_`` in front), from which ``repr``,
    ``sklearn.base.clone`` and :meth:`reset` make it anew.

    Attributes
    ----------
    alpha : Fraction
        Target miscoverage, in (0, 1).
    """

    alpha: Fraction

    @abstractmethod
    def threshold(self, memory: Memory, /) -> float:
        """Return the threshold q̂ of the next prediction set, {y : s(x, y) ≤ q̂}, and change nothing.

        A level that combines several thresholds returns a :class:`Threshold`, which :meth:`update` receives again.
        """

    @abstractmethod
    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Learn from the score of the true label and the threshold that its set was issued with.

        Called before the score is added to the memory. If labels are late, ``threshold`` is an earlier one.
        """

    def calibrate(self, scores: Sequence[float], /) -> None:
        """Restart; a level with parameters in units of the score estimates missing ones from calibration scores."""
        self.reset()

    @abstractmethod
    def state_dict(self) -> State:
        """Return the state as arrays and numbers."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Restore a saved state."""


class QuantileLevel(Level):
    """A level whose threshold is the quantile of the memory at a miscoverage α_t.

    :class:`Constant`, :class:`ACI` and :class:`DtACI`.
    """

    @property
    @abstractmethod
    def current(self) -> Fraction:
        """The miscoverage α_t of the next set; it may leave [0, 1]."""

    def threshold(self, memory: Memory, /) -> float:
        """Quantile of the memory at α_t: +∞ for α_t ≤ 0, −∞ for α_t ≥ 1."""
        return float(memory.quantile(self.current))


class ThresholdLevel(Level):
    """A level that moves the threshold itself and never uses the memory, which may be omitted.

    :class:`DecayingStep`, :class:`ConformalPID` and :class:`SAOCP`.
    """

    @abstractmethod
    def threshold(self, memory: Memory | None = None, /) -> float:
        """Return the threshold q̂ of the next prediction set, and change nothing."""

    @abstractmethod
    def update(self, score: float, threshold: float, memory: Memory | None = None, /) -> None:
        """Learn from the score of the true label and the threshold that its set was issued with."""


def as_positive(name: str, value: Alpha) -> Fraction:
    """Return a positive number as an exact fraction, or raise."""
    exact = as_fraction(value, name)
    if exact <= 0:
        raise ValueError(f"{name} must be positive, got {value}")
    return exact


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
        if value is None:
            cure = "learned by calibrate() before the first prediction, from scores that are not all equal"
            raise ValueError(f"{name} of {type(self).__name__} must be given, or {cure}")
        return value

    def _first(self, scores: Sequence[float]) -> float:
        """Return the conformal quantile of calibration scores, or the largest score if they are too few."""
        return sorted(scores)[min(rank(len(scores), self.alpha), len(scores)) - 1]

    def _spread(self, scores: Sequence[float]) -> float | None:
        """Return the distance of the first threshold from the least score, or the range of scores, or None."""
        return self._first(scores) - min(scores) or max(scores) - min(scores) or None


def read_learned(state: State, key: str, given: float | None, *, least: float = -math.inf) -> float | None:
    """Return a number of a state, or None if it was neither given nor learned."""
    if state[key] is None and given is None and not state["steps"]:
        return None
    return read_number(state, key, least=least)


def given_or(given: float | None, learned: float | None) -> float | None:
    """Return the given value if there is one, or else the learned one."""
    return learned if given is None else given
