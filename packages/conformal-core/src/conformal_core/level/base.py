"""Interface of levels, which set the threshold of the next prediction set."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Self

from conformal_core._rank import Alpha, as_fraction
from conformal_core._settings import Resettable
from conformal_core._state import State
from conformal_core.memory.base import Memory


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
    """Rule that sets the threshold of the next prediction set: an update rule, or tracker.

    A new level subclasses :class:`QuantileLevel` if its threshold is a quantile of the memory, or
    :class:`ThresholdLevel` if it moves the threshold itself, and defines the abstract methods. It keeps the arguments
    of its constructor as attributes of the same name (or with ``_`` in front), from which ``repr``,
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
