"""Constant miscoverage, and adaptive conformal inference."""

from fractions import Fraction

from conformal_core._rank import Alpha, miscoverage
from conformal_core._settings import Saved
from conformal_core._state import State, read_fraction
from conformal_core.level.base import QuantileLevel, as_positive
from conformal_core.memory.base import Memory


class Constant(Saved, QuantileLevel):
    """A constant miscoverage α.

    Parameters
    ----------
    alpha
        Miscoverage in (0, 1).

    Raises
    ------
    TypeError, ValueError
        If ``alpha`` is not a number in (0, 1).

    Notes
    -----
    Guarantee: that of the memory. With :class:`History` and exchangeable data, coverage is at least 1 − α at every
    step; under drift there is none.

    Examples
    --------
    >>> from conformal_core import History
    >>> Constant(0.1).threshold(History())
    inf
    """

    _kind, _saved = "Constant", ("alpha",)

    def __init__(self, alpha: Alpha) -> None:
        self.alpha: Fraction = miscoverage(alpha)

    @property
    def current(self) -> Fraction:
        """The miscoverage α."""
        return self.alpha

    def threshold(self, memory: Memory, /) -> float:
        """Quantile of the memory at α."""
        return float(memory.quantile(self.alpha))

    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Do nothing."""

    def _learned(self) -> State:
        return {}

    def _restore(self, state: State) -> None:
        """Do nothing: a state of another miscoverage was refused."""


class ACI(Saved, QuantileLevel):
    """Adaptive conformal inference: α_{t+1} = α_t + γ(α − err_t), where err_t is 1 if the set missed the label, else 0.

    Parameters
    ----------
    alpha
        Long-run miscoverage, in (0, 1).
    gamma
        Step γ > 0; .005 is usual. Larger steps follow faster drift but vary set sizes more.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number in its range.

    Attributes
    ----------
    current : Fraction
        α_t. It may leave [0, 1]: at 0 or below every set is full, at 1 or above every set is empty. Clipping it would
        break the guarantee.

    Notes
    -----
    Guarantee, for any sequence and any memory: ``|mean err − α| ≤ (max(α, 1 − α) + γ)/(γT)`` after each number T of
    labels. Gibbs and Candès, *Adaptive conformal inference under distribution shift* (2021), proposition 4.1. If up to
    d other sets wait for their labels when a set is issued, the bound is ``(max(α, 1 − α) + (d + 1)γ)/(γT)``, because
    those may all miss after α_t has left [0, 1]. α_t is computed in integers, so it is exact after any number of steps.
    O(1) per step, plus the memory.

    Examples
    --------
    >>> from conformal_core import History
    >>> level, memory = ACI(alpha=0.1, gamma=0.05), History()
    >>> level.update(0.7, 0.5, memory)  # a miss: α_t falls
    >>> float(level.current)
    0.055
    """

    _kind, _saved = "ACI", ("alpha", "gamma")

    def __init__(self, *, alpha: Alpha, gamma: Alpha = 0.005) -> None:
        self.alpha: Fraction = miscoverage(alpha)
        self.gamma: Fraction = as_positive("gamma", gamma)
        # α_t = now / whole and now = first + steps · up − misses · down, all integers.
        self._whole = self.alpha.denominator * self.gamma.denominator
        self._down = self.gamma.numerator * self.alpha.denominator
        self._up = self.gamma.numerator * self.alpha.numerator
        self._now = self.alpha.numerator * self.gamma.denominator

    @property
    def current(self) -> Fraction:
        """The miscoverage α_t of the next set."""
        return Fraction(self._now, self._whole)

    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Lower α_t after a miss, raise it after a hit."""
        self._now += self._up - self._down if score > threshold else self._up

    def _learned(self) -> State:
        return {"current": str(self.current)}

    def _restore(self, state: State) -> None:
        now = read_fraction(state, "current") * self._whole
        if now.denominator != 1:
            raise ValueError(f"state of ACI must hold a level that steps of {self.gamma} reach, got {state['current']}")
        self._now = int(now)
