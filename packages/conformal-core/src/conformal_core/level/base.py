"""What a level is: a threshold from a memory, and a lesson from every score that follows."""

from decimal import Decimal
from fractions import Fraction
from typing import Protocol, runtime_checkable

from conformal_core._checks import is_finite_number, is_number
from conformal_core._rank import as_fraction
from conformal_core._state import State
from conformal_core.memory.base import Memory


@runtime_checkable
class Level(Protocol):
    """How strict to be now.

    Some levels move the miscoverage α at which the memory is asked (:class:`ACI`, :class:`DtACI`), others move the
    threshold itself and never ask it (:class:`DecayingStep`, :class:`ConformalPID`, :class:`SAOCP`). A new level
    defines these methods.
    """

    def threshold(self, memory: Memory, /) -> float:
        """Return the threshold q̂ of the next prediction set, {y : s(x, y) ≤ q̂}."""
        ...

    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Learn from the true label's score and the threshold its set had, before the memory takes the score in."""
        ...

    def state_dict(self) -> State:
        """Return what was learned, as arrays and numbers."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state."""
        ...


def positive(name: str, value: float | Decimal | Fraction) -> Fraction:
    """Return a positive number as an exact fraction; refuse anything else."""
    exact = as_fraction(value, name)
    if exact <= 0:
        raise ValueError(f"{name} must be positive, got {value}")
    return exact


def finite(name: str, value: float) -> float:
    """Return a finite number; refuse anything else."""
    is_number(name, value)
    is_finite_number(name, value)
    return float(value)
