"""Interface of martingales, which bet on p-values that are not uniform."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

from conformal_core._settings import Resettable
from conformal_core._state import State
from conformal_core.checks import check_interval


class Martingale(Resettable, ABC):
    """Rule that bets capital on the next p-value: a conformal test martingale.

    A new martingale subclasses this and defines the abstract methods. It keeps the arguments of its constructor as
    attributes of the same name (or with ``_`` in front), from which ``repr``, ``sklearn.base.clone`` and :meth:`reset`
    make it anew.
    """

    @abstractmethod
    def bet(self, p_value: float, /) -> float:
        """Return the logarithm of the factor by which the capital grows at a p-value in (0, 1], and learn from it.

        As a function of the p-value the factor must be a density on [0, 1] that depends on earlier p-values only:
        then the capital is a martingale if the p-values are independent and uniform.
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
    """Return the logarithm of the sum of numbers, not all 0, that are given by their logarithms."""
    terms = list(logarithms)
    top = max(terms)
    return top + math.log(sum([math.exp(term - top) for term in terms]))
