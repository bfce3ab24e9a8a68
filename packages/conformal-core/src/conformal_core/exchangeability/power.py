"""The power martingale."""

import math

from conformal_core._settings import Saved
from conformal_core.checks import check_interval
from conformal_core.exchangeability.base import Martingale, as_p_value


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
        return self._constant + (self._epsilon - 1.0) * math.log(as_p_value(p_value))
