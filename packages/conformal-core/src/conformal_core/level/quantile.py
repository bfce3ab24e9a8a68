"""Levels whose threshold is a quantile of the memory: constant, ACI and DtACI."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from conformal_core._settings import Saved
from conformal_core._state import State, load_together, read_floats, read_fraction, read_states, refuse_if
from conformal_core.checks import check_count, check_interval
from conformal_core.level.base import QuantileLevel, Threshold, as_positive
from conformal_core.memory.base import Memory
from conformal_core.memory.ordered import SortedMemory
from conformal_core.quantile import Alpha, miscoverage

_UNITS = 1 << 53  # parts of a loss

_STEPS = (0.001, 0.002, 0.004, 0.008, 0.0160, 0.032, 0.064, 0.128)


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
    >>> Constant(alpha=0.1).threshold(History())
    inf
    """

    _kind, _saved = "Constant", ("alpha",)

    def __init__(self, *, alpha: Alpha) -> None:
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
        α_t, exact after any number of steps. It may leave [0, 1]: at 0 or below every set is full, at 1 or above empty.

    Notes
    -----
    Guarantee, for any sequence and any memory: ``|mean err − α| ≤ (max(α, 1 − α) + γ)/(γT)`` after each number T of
    labels. Gibbs and Candès, *Adaptive conformal inference under distribution shift* (2021), proposition 4.1. If up to
    d other sets wait for their labels when a set is issued, the bound is ``(max(α, 1 − α) + (d + 1)γ)/(γT)``.
    O(1) per step, plus the memory.

    With :meth:`update_loss` the level controls another loss, such as the fraction of relevant labels that are missed
    (Feldman, Ringel, Bates and Romano, *Achieving risk control in online learning settings*, 2023). If the full set has
    no loss, the mean loss is at most α + (α + γ)/(γT), for any sequence.

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
        refuse_if(units.denominator != 1, state, f"a level that steps of {self.gamma} reach", state["current"])
        self._now = math.ceil(units / _UNITS)
        self._below = self._now * _UNITS - int(units)


class DtACI(Saved, QuantileLevel):
    """Dynamically tuned ACI: several :class:`ACI` with different steps, weighted by their recent loss.

    α_t is the weighted mean of the experts' levels. After each label an expert incurs the pinball loss of its level
    at the p-value of the true score, against the memory when the label arrives. If a label is late, each expert learns
    from *its* set at the time of prediction.

    Parameters
    ----------
    alpha
        Long-run miscoverage of each expert, in (0, 1).
    gammas
        Step of each expert, one or more, positive.
    window
        Number of steps I over which to match the best expert, at least 1. It sets the learning rate η, as in the paper,
        and σ = 1/(2I), the fraction of weight that is redistributed.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number in its range.

    Notes
    -----
    Guarantee, for any sequence whose labels arrive before the next prediction: over any I steps in a row the pinball
    loss of α_t exceeds that of the best expert by at most ``(log(K/σ) + 2σI)/η + η/2 · Σ_t Σ_i w_{t,i} ℓ_{t,i}²``, for
    weights w and losses ℓ. Gibbs and Candès, *Conformal inference for online prediction with arbitrary distribution
    shifts* (2024). Each expert has the guarantee of :class:`ACI`.

    Long-run coverage has no bound: with ties it can grow, to .996 for .9 after 10,000 steps of 0, 1, 0, 1, … With one
    expert the level equals :class:`ACI`. O(K) per step, plus a p-value of the memory.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import History
    >>> level, memory = DtACI(alpha=0.1), History()
    >>> memory.extend(np.arange(1.0, 100.0))
    >>> level.threshold(memory)
    90.0
    """

    _kind, _saved = "DtACI", ("window",)

    def __init__(self, *, alpha: Alpha, gammas: Sequence[Alpha] = _STEPS, window: int = 500) -> None:
        window = check_count("window", window)
        if isinstance(gammas, str) or not isinstance(gammas, (Sequence, np.ndarray)):
            raise TypeError(f"gammas must be a sequence of steps, got {type(gammas).__name__}")
        if len(gammas) == 0:
            raise ValueError("gammas must hold at least one step, got none")
        self.alpha: Fraction = miscoverage(alpha)
        self._window = window
        self._experts = [ACI(alpha=alpha, gamma=gamma) for gamma in gammas]
        self._given_gammas = tuple(expert.gamma for expert in self._experts)
        whole = [expert._whole for expert in self._experts]
        self._common = math.lcm(*whole)
        self._multiples = [self._common // one for one in whole]
        self._weights = np.full(len(gammas), 1.0 / len(gammas))
        self._alpha = a = float(self.alpha)
        k = len(gammas)
        self._eta = math.sqrt(3 / window * (math.log(k * window) + 2)) / (a * (1 - a))
        self._sigma = 1 / (2 * window)

    @property
    def current(self) -> Fraction:
        """The miscoverage α_t of the next set, the weighted mean of the experts' levels."""
        return Fraction(*self._mean())

    def _mean(self) -> tuple[int, int]:
        ratios = [weight.as_integer_ratio() for weight in self._weights.tolist()]
        binary = max(denominator for _, denominator in ratios)  # all are powers of two
        total = sum(
            numerator * (binary // denominator) * expert._now * multiple
            for (numerator, denominator), expert, multiple in zip(ratios, self._experts, self._multiples, strict=True)
        )
        return total, binary * self._common

    def threshold(self, memory: Memory, /) -> float:
        """Quantile of the memory at α_t: +∞ for α_t ≤ 0, −∞ for α_t ≥ 1; its parts are the experts' α and quantiles."""
        ratios = [(expert._now, expert._whole) for expert in self._experts]
        *quantiles, threshold = _quantiles(memory, [*ratios, self._mean()])
        levels = [now / whole for now, whole in ratios]
        return Threshold(threshold, zip(levels, quantiles, strict=True))

    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Update the weights by the losses, then each expert; TypeError for a threshold of another level."""
        parts = getattr(threshold, "parts", ())
        if len(parts) != len(self._experts):
            raise TypeError(f"threshold must be one that DtACI.threshold returned, got {threshold!r}")
        above = float(memory.p_values(np.asarray(score))) - np.asarray([level for level, _ in parts])
        loss = self._alpha * above - np.minimum(0.0, above)
        weights = self._weights * np.exp(-self._eta * (loss - min(loss.tolist())))
        weights = (1 - self._sigma) * weights / np.add.reduce(weights) + self._sigma / len(weights)
        self._weights = weights / np.add.reduce(weights)
        for expert, (_, own) in zip(self._experts, parts, strict=True):
            expert.update(score, own, memory)

    def _learned(self) -> State:
        return {"weights": self._weights.copy(), "experts": [expert.state_dict() for expert in self._experts]}

    def _restore(self, state: State) -> None:
        count = len(self._experts)
        saved = read_states(state, "experts", count)
        weights = read_floats(state, "weights", length=count, least=0.0)
        refuse_if(not 0.5 < weights.sum() < 2.0, state, "weights that sum to 1", weights.sum())  # 1, but for rounding
        experts = [ACI(alpha=expert.alpha, gamma=expert.gamma) for expert in self._experts]
        load_together(*zip(experts, saved, strict=True))
        self._experts, self._weights = experts, weights


def _quantiles(memory: Memory, ratios: Sequence[tuple[int, int]]) -> list[float]:
    if isinstance(memory, SortedMemory):
        return [memory.quantile_at(*ratio) for ratio in ratios]
    return [float(memory.quantile(Fraction(*ratio))) for ratio in ratios]
