"""Martingales, which bet on p-values that are not uniform."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from conformal_core._settings import Resettable, Saved
from conformal_core._state import State, load_together, read_count, read_floats, read_number, read_states, refuse_if
from conformal_core.checks import check_interval, check_type

_SLOPES = (-1.0, -0.5, 0.0, 0.5, 1.0)
_ONE_SIDED = (-2.0, -1.0, -0.5, 0.0)
_JUMPS = (0.0001, 0.001, 0.01, 0.1, 1.0)  # of the composite jumper
_LEAST = 1e-4  # parameter of the beta density
_BELOW_ONE = math.nextafter(1.0, 0.0)
_ROUNDING = 1e-6  # of fractions that sum to 1


class Martingale(Resettable, ABC):
    """Rule that bets capital on the next p-value; it keeps its arguments as a :class:`Level` does."""

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


class SimpleJumper(Saved, Martingale):
    """A mixture of bets 1 + ε (p − ½), whose capital partly moves from bet to bet at each step.

    Parameters
    ----------
    jump
        Fraction of the capital that is spread evenly over all bets before each step, in (0, 1].
    one_sided
        Whether to bet only on small p-values: ε of −2, −1, −½ and 0 in place of −1, −½, 0, ½ and 1.

    Raises
    ------
    TypeError, ValueError
        If ``jump`` is not a number in (0, 1].

    Notes
    -----
    Vovk et al., *Retrain or not retrain: conformal test martingales for change-point detection* (2021), algorithm 1.
    While nothing changes, the logarithm of the capital falls by about .6 · jump per step.

    Examples
    --------
    >>> import math
    >>> bets = SimpleJumper(jump=0.001)
    >>> round(math.exp(bets.bet(0.1)), 6)  # 1 + .4 (2 + 1 + ½ + 0) / 4
    1.35
    """

    _kind, _saved = "SimpleJumper", ("jump", "one_sided")

    def __init__(self, *, jump: float = 0.001, one_sided: bool = True) -> None:
        self._jump = check_interval("jump", jump, "(0, 1]")
        check_type("one_sided", one_sided, bool, "be a bool")
        self._one_sided = one_sided
        self._slopes = _ONE_SIDED if one_sided else _SLOPES
        self._keep, self._spread = 1.0 - self._jump, self._jump / len(self._slopes)
        self._stakes = [1.0 / len(self._slopes)] * len(self._slopes)

    def bet(self, p_value: float, /) -> float:
        """Return the logarithm of the growth at a p-value in (0, 1], and move the capital."""
        keep, spread, offset = self._keep, self._spread, _as_p_value(p_value) - 0.5
        bets = zip(self._stakes, self._slopes, strict=True)
        stakes = [(keep * stake + spread) * (1.0 + slope * offset) for stake, slope in bets]
        growth = sum(stakes)
        self._stakes = [stake / growth for stake in stakes]
        return math.log(growth)

    def _learned(self) -> State:
        return {"stakes": np.asarray(self._stakes)}

    def _restore(self, state: State) -> None:
        stakes = read_floats(state, "stakes", length=len(self._slopes), least=0.0).tolist()
        refuse_if(abs(sum(stakes) - 1.0) > 1e-9, state, "stakes that sum to 1", f"a sum of {sum(stakes)}")
        self._stakes = stakes


class PowerMartingale(Saved, Martingale):
    """Bets ε p^(ε − 1), larger for smaller p-values.

    Parameters
    ----------
    epsilon
        Exponent ε in (0, 1]: the smaller, the more is bet on very small p-values. With 1 nothing is bet.

    Raises
    ------
    TypeError, ValueError
        If ``epsilon`` is not a number in (0, 1].

    Notes
    -----
    Vovk, Nouretdinov and Gammerman, *Testing exchangeability on-line* (2003).

    Examples
    --------
    >>> import math
    >>> round(math.exp(PowerMartingale(epsilon=0.5).bet(0.0625)), 6)
    2.0
    """

    _kind, _saved = "PowerMartingale", ("epsilon",)

    def __init__(self, *, epsilon: float = 0.5) -> None:
        self._epsilon = check_interval("epsilon", epsilon, "(0, 1]")
        self._constant = math.log(self._epsilon)

    def bet(self, p_value: float, /) -> float:
        """Return log(ε p^(ε − 1)) for a p-value in (0, 1]."""
        return self._constant + (self._epsilon - 1.0) * math.log(_as_p_value(p_value))


class PluginMartingale(Saved, Martingale):
    """Stakes part of the capital on the beta density with the mean and variance of the earlier p-values.

    It finds any lasting change of the distribution, but more slowly than a bet on the right kind of change.

    Parameters
    ----------
    stake
        Fraction of the capital that is staked at each step, in (0, 1]. With 1, one improbable p-value can cost all.

    Raises
    ------
    TypeError, ValueError
        If ``stake`` is not a number in (0, 1].

    Notes
    -----
    Fedorova, Gammerman, Nouretdinov and Vovk, *Plug-in martingales for testing exchangeability on-line* (2012), with a
    beta density in place of a kernel estimate. O(1) per step.

    Examples
    --------
    >>> bets = PluginMartingale()
    >>> [round(bets.bet(p), 3) for p in (0.1, 0.3, 0.2, 0.9)]
    [0.0, 0.0, 0.554, -0.693]
    """

    _kind, _saved = "PluginMartingale", ("stake",)

    def __init__(self, *, stake: float = 0.5) -> None:
        self._stake = check_interval("stake", stake, "(0, 1]")
        self._log_stake = math.log(self._stake)
        self._log_kept = math.log1p(-self._stake) if self._stake < 1 else -math.inf
        self._count, self._mean, self._squares = 0, 0.0, 0.0  # of p-values, and their squared distances from the mean
        self._set(1.0, 1.0)

    def bet(self, p_value: float, /) -> float:
        """Return the logarithm of the growth at a p-value in (0, 1], and refit the density."""
        p = min(_as_p_value(p_value), _BELOW_ONE)
        density = (self._a - 1.0) * math.log(p) + (self._b - 1.0) * math.log1p(-p) - self._log_beta
        growth = _log_sum((self._log_kept, self._log_stake + density))
        self._count += 1
        apart = p - self._mean
        self._mean += apart / self._count
        self._squares += apart * (p - self._mean)
        both = self._mean * (1 - self._mean) * (self._count - 1) / self._squares - 1 if self._squares > 0 else 0.0
        if both > 0:  # else no beta density has this mean and variance
            self._set(max(self._mean * both, _LEAST), max((1 - self._mean) * both, _LEAST))
        return growth

    def _set(self, a: float, b: float) -> None:
        self._a, self._b, self._log_beta = a, b, math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    def _learned(self) -> State:
        return {"count": self._count, "mean": self._mean, "squares": self._squares, "a": self._a, "b": self._b}

    def _restore(self, state: State) -> None:
        count, mean = read_count(state, "count"), read_number(state, "mean", least=0.0)
        squares = read_number(state, "squares", least=0.0)
        a, b = read_number(state, "a", least=_LEAST), read_number(state, "b", least=_LEAST)
        refuse_if(mean > 1, state, "a mean in [0, 1]", mean)
        self._count, self._mean, self._squares = count, mean, squares
        self._set(a, b)


class MixtureMartingale(Saved, Martingale):
    """Mean of several martingales; its logarithm stays within log M of that of the best of M parts.

    Parameters
    ----------
    parts
        Martingales. If None, the composite jumper: simple jumpers with jumps of .0001, .001, .01, .1 and 1.

    Raises
    ------
    TypeError, ValueError
        If ``parts`` are not martingales, or there is none.

    Notes
    -----
    Vovk et al., *Retrain or not retrain: conformal test martingales for change-point detection* (2021).

    Examples
    --------
    >>> import math
    >>> from conformal_core import PowerMartingale
    >>> mixture = MixtureMartingale([PowerMartingale(epsilon=0.5), PowerMartingale(epsilon=1.0)])
    >>> round(math.exp(mixture.bet(0.0625)), 6), round(math.exp(mixture.bet(0.25)), 6)  # (2 + 1)/2, (2·1 + 1·1)/3
    (1.5, 1.0)
    """

    _kind = "MixtureMartingale"

    def __init__(self, parts: Sequence[Martingale] | None = None) -> None:
        check_type("parts", parts, (list, tuple, type(None)), "be a list of martingales")
        self._parts = [SimpleJumper(jump=jump) for jump in _JUMPS] if parts is None else list(parts)
        self._given_parts = None if parts is None else self._parts
        if not self._parts:
            raise ValueError("parts must hold at least one martingale, got none")
        for part in self._parts:
            check_type("parts", part, Martingale, "be martingales, such as SimpleJumper()")
        self._logs = [-math.log(len(self._parts))] * len(self._parts)  # of the fractions of the capital, which sum to 1

    def bet(self, p_value: float, /) -> float:
        """Return the logarithm of the growth of the mean at a p-value in (0, 1]."""
        logs = [log + part.bet(p_value) for log, part in zip(self._logs, self._parts, strict=True)]
        growth = _log_sum(logs)
        self._logs = [log - growth for log in logs]
        return growth

    def reset(self) -> None:
        """Forget what was learned, in all parts."""
        for part in self._parts:
            part.reset()
        super().reset()

    def _learned(self) -> State:
        return {"logs": np.asarray(self._logs), "parts": [part.state_dict() for part in self._parts]}

    def _restore(self, state: State) -> None:
        logs, parts = read_floats(state, "logs", length=len(self._parts)), read_states(state, "parts", len(self._parts))
        refuse_if(abs(_log_sum(logs.tolist())) > _ROUNDING, state, "logs of fractions that sum to 1")
        load_together(*zip(self._parts, parts, strict=True))
        self._logs = logs.tolist()


def _as_p_value(value: float) -> float:
    return value if type(value) is float and 0.0 < value <= 1.0 else check_interval("p_value", value, "(0, 1]")


def _log_sum(logarithms: Iterable[float]) -> float:
    terms = list(logarithms)
    top = max(terms)
    return top + math.log(sum([math.exp(term - top) for term in terms]))
