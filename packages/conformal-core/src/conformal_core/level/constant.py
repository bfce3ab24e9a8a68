"""Constant miscoverage."""

from fractions import Fraction

from conformal_core._rank import Alpha, miscoverage
from conformal_core._settings import Saved
from conformal_core._state import State
from conformal_core.level.base import QuantileLevel
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

    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Do nothing."""

    def _learned(self) -> State:
        return {}

    def _restore(self, state: State) -> None:
        """Do nothing: a state of another miscoverage was refused."""
