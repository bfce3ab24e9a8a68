"""The plug-in martingale: bets on the estimated density of past p-values."""

import math

from conformal_core._settings import Saved
from conformal_core._state import State, read_count, read_number
from conformal_core.checks import check_interval
from conformal_core.exchangeability.base import Martingale, as_p_value, log_sum

_LEAST = 1e-4  # parameter of the beta density
_BELOW_ONE = math.nextafter(1.0, 0.0)


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
    beta density, fitted by moments from the third p-value on, in place of a kernel estimate. O(1) per step.

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
        p = min(as_p_value(p_value), _BELOW_ONE)
        density = (self._a - 1.0) * math.log(p) + (self._b - 1.0) * math.log1p(-p) - self._log_beta
        growth = log_sum((self._log_kept, self._log_stake + density))
        self._count += 1
        apart = p - self._mean
        self._mean += apart / self._count
        self._squares += apart * (p - self._mean)
        self._fit()
        return growth

    def _fit(self) -> None:
        if self._count < 2 or self._squares <= 0:
            return
        concentration = self._mean * (1 - self._mean) * (self._count - 1) / self._squares - 1
        if concentration > 0:
            self._set(max(self._mean * concentration, _LEAST), max((1 - self._mean) * concentration, _LEAST))

    def _set(self, a: float, b: float) -> None:
        self._a, self._b, self._log_beta = a, b, math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    def _learned(self) -> State:
        return {"count": self._count, "mean": self._mean, "squares": self._squares, "a": self._a, "b": self._b}

    def _restore(self, state: State) -> None:
        count, mean = read_count(state, "count"), read_number(state, "mean", least=0.0)
        squares = read_number(state, "squares", least=0.0)
        a, b = read_number(state, "a", least=_LEAST), read_number(state, "b", least=_LEAST)
        if mean > 1:
            raise ValueError(f"state of PluginMartingale must hold a mean in [0, 1], got {mean}")
        self._count, self._mean, self._squares = count, mean, squares
        self._set(a, b)
