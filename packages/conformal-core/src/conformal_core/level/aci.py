"""Constant miscoverage, and adaptive conformal inference."""

import math
from fractions import Fraction

from conformal_core._rank import Alpha, miscoverage
from conformal_core._settings import Saved
from conformal_core._state import State, read_fraction
from conformal_core.checks import check_interval
from conformal_core.level.base import QuantileLevel, as_positive
from conformal_core.memory.base import Memory

_UNITS = 1 << 53  # parts of a loss


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

    With :meth:`update_loss` the level controls another loss than misses, such as the fraction of relevant labels that
    are missed (Feldman, Ringel, Bates and Romano, *Achieving risk control in online learning settings*, 2023). If the
    full set has no loss, the mean loss is at most α + (α + γ)/(γT), for any sequence.

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
        self._below = 0  # α_t = (now − below / 2⁵³) / whole if losses are fractions

    @property
    def current(self) -> Fraction:
        """The miscoverage α_t of the next set."""
        if self._below:
            return Fraction(self._now * _UNITS - self._below, self._whole * _UNITS)
        return Fraction(self._now, self._whole)

    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Lower α_t after a miss, raise it after a hit."""
        self._now += self._up - self._down if score > threshold else self._up

    def update_loss(self, loss: float, /) -> None:
        """Learn from the loss of the issued set, in [0, 1], in place of :meth:`update`: α_{t+1} = α_t + γ(α − loss).

        It is rounded to a multiple of 2⁻⁵³.

        Raises
        ------
        TypeError, ValueError
            If ``loss`` is not a number in [0, 1].
        """
        units = round(check_interval("loss", loss, "[0, 1]") * _UNITS) * self._down + self._below
        steps, self._below = divmod(units, _UNITS)
        self._now += self._up - steps

    def _learned(self) -> State:
        return {"current": str(self.current)}

    def _restore(self, state: State) -> None:
        units = read_fraction(state, "current") * self._whole * _UNITS
        if units.denominator != 1:
            raise ValueError(f"state of ACI must hold a level that steps of {self.gamma} reach, got {state['current']}")
        self._now = math.ceil(units / _UNITS)
        self._below = self._now * _UNITS - int(units)
