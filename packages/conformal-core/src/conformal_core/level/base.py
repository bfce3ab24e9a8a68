"""The interface of a level, the rule that sets the next threshold, and what levels share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Self

from conformal_core._rank import Alpha, as_fraction
from conformal_core._settings import Resettable
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

        A level that combines several thresholds returns a :class:`Threshold`, which is handed back to ``update``.
        """

    @abstractmethod
    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Learn from the score of the true label and the threshold that its set was issued with.

        Called before the memory takes the score in. Labels may be late: ``threshold`` is then an older one.
        """

    def calibrate(self, scores: Sequence[float], /) -> None:
        """Restart, and take from calibration scores the units of the score that were not given, if there are any."""
        self.reset()

    @abstractmethod
    def state_dict(self) -> State:
        """Return what was learned, as arrays and numbers."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state."""


class QuantileLevel(Level):
    """A level whose threshold is the quantile of the memory at a miscoverage α_t that it moves, or keeps.

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
    """A level that moves the threshold itself and never looks at the memory, which may be left out.

    :class:`DecayingStep`, :class:`ConformalPID` and :class:`SAOCP`.
    """

    @abstractmethod
    def threshold(self, memory: Memory | None = None, /) -> float:
        """Return the threshold q̂ of the next prediction set, and change nothing."""

    @abstractmethod
    def update(self, score: float, threshold: float, memory: Memory | None = None, /) -> None:
        """Learn from the score of the true label and the threshold that its set was issued with."""


def as_positive(name: str, value: Alpha) -> Fraction:
    """Return a positive number as an exact fraction; refuse anything else."""
    exact = as_fraction(value, name)
    if exact <= 0:
        raise ValueError(f"{name} must be positive, got {value}")
    return exact
