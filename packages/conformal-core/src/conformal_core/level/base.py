"""The interface of a level, the rule that sets the next threshold, and what levels share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Self

from conformal_core._rank import Alpha, as_fraction
from conformal_core._settings import Settings
from conformal_core._state import State
from conformal_core.memory.base import Memory


class Threshold(float):
    """A threshold that was combined from those of several learners, and remembers them until the label is known.

    Parameters
    ----------
    value
        The threshold itself.
    parts
        For each learner a tag, by which its level recognizes it, and its own threshold.
    """

    parts: tuple[tuple[float, float], ...]

    def __new__(cls, value: float, parts: Iterable[tuple[float, float]]) -> Self:
        """Make a float that holds the parts."""
        threshold = super().__new__(cls, value)
        threshold.parts = tuple(parts)
        return threshold

    def __getnewargs__(self) -> tuple[float, tuple[tuple[float, float], ...]]:  # type: ignore[override]
        """Return what makes a copy."""
        return float(self), self.parts

    def mapped(self, function: Callable[[float], float]) -> "Threshold":
        """Return it with ``function`` applied to all thresholds."""
        return Threshold(function(float(self)), ((tag, function(own)) for tag, own in self.parts))


class Level(Settings, ABC):
    """Rule that sets the threshold of the next prediction set.

    Some levels move the miscoverage α of the quantile that they take of the memory (:class:`ACI`, :class:`DtACI`),
    others move the threshold itself and do not use the memory (:class:`DecayingStep`, :class:`ConformalPID`,
    :class:`SAOCP`). A new level subclasses this and defines the abstract methods.
    """

    @abstractmethod
    def threshold(self, memory: Memory, /) -> float:
        """Return the threshold q̂ of the next prediction set, {y : s(x, y) ≤ q̂}, and change nothing.

        A level that combines several thresholds returns a :class:`Threshold`, which is handed back to ``update``.
        """

    @abstractmethod
    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Learn from the score of the true label and the threshold that its set was issued with.

        Called before the memory takes the score in. Labels may be late: ``threshold`` is then an older one.
        """

    def calibrate(self, scores: Sequence[float], /) -> None:  # most levels have no units
        """Take the units of the score from calibration scores, where a level needs them and was not given them."""

    @abstractmethod
    def state_dict(self) -> State:
        """Return what was learned, as arrays and numbers."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state."""


def as_positive(name: str, value: Alpha) -> Fraction:
    """Return a positive number as an exact fraction; refuse anything else."""
    exact = as_fraction(value, name)
    if exact <= 0:
        raise ValueError(f"{name} must be positive, got {value}")
    return exact
