"""Interface of martingales, which bet on p-values that are not uniform."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

from conformal_core._settings import Resettable
from conformal_core._state import State
from conformal_core.checks import check_interval


class Martingale(Resettable, ABC):
    """Rule that bets capital on the next p-value; the arguments of its constructor are kept as those of a :class:`Level`."""

    @abstractmethod
    def bet(self, p_value: float, /) -> float:
        """Return the logarithm of the factor by which the capital grows at a p-value in (0, 1], and learn from it.

        The factor must be a density on [0, 1] that depends on earlier p-values only, so that the capital is a
        martingale if p-values are independent and uniform.
        """

    @abstractmethod
    def state_dict(self) -> State:
        """Return the state as arrays and numbers."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Restore a saved state."""


def as_p_value(value: float) -> float:
    """Return a p-value in (0, 1] as a float, or raise."""
    return value if type(value) is float and 0.0 < value <= 1.0 else check_interval("p_value", value, "(0, 1]")


def log_sum(logarithms: Iterable[float]) -> float:
    """Return the logarithm of the sum of numbers with these logarithms."""
    terms = list(logarithms)
    top = max(terms)
    return top + math.log(sum([math.exp(term - top) for term in terms]))
