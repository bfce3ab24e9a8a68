"""The Simple Jumper: a martingale that bets on p-values which are not uniform, and changes its bets as they drift."""

import math

import numpy as np

from conformal_core._settings import Saved
from conformal_core._state import State, read_floats
from conformal_core.checks import check_interval
from conformal_core.exchangeability.base import Martingale, as_p_value

_SLOPES = (-1.0, -0.5, 0.0, 0.5, 1.0)
_ONE_SIDED = (-2.0, -1.0, -0.5, 0.0)


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
    Vovk et al., *Retrain or not retrain: conformal test martingales for change-point detection* (2021), algorithm 1,
    with their ε if two-sided; the steeper bet −2 finds large shifts in about half as many steps. While nothing changes,
    the logarithm of the capital falls by about .6 · jump per step, which delays the detection of a later change.

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
        if not isinstance(one_sided, bool):
            raise TypeError(f"one_sided must be a bool, got {type(one_sided).__name__}")
        self._one_sided = one_sided
        self._slopes = _ONE_SIDED if one_sided else _SLOPES
        self._keep, self._spread = 1.0 - self._jump, self._jump / len(self._slopes)
        self._stakes = [1.0 / len(self._slopes)] * len(self._slopes)

    def bet(self, p_value: float, /) -> float:
        """Return the logarithm of the growth at a p-value in (0, 1], and move the capital."""
        keep, spread, offset = self._keep, self._spread, as_p_value(p_value) - 0.5
        bets = zip(self._stakes, self._slopes, strict=True)
        stakes = [(keep * stake + spread) * (1.0 + slope * offset) for stake, slope in bets]
        growth = sum(stakes)
        self._stakes = [stake / growth for stake in stakes]
        return math.log(growth)

    def _learned(self) -> State:
        return {"stakes": np.asarray(self._stakes)}

    def _restore(self, state: State) -> None:
        stakes = read_floats(state, "stakes", length=len(self._slopes), least=0.0).tolist()
        if abs(sum(stakes) - 1.0) > 1e-9:
            raise ValueError(f"state of SimpleJumper must hold stakes that sum to 1, got a sum of {sum(stakes)}")
        self._stakes = stakes
