"""Quantile tracking with a decaying step."""

from collections.abc import Sequence
from fractions import Fraction

from conformal_core._rank import Alpha, miscoverage
from conformal_core._state import State, read_count
from conformal_core.checks import check_finite_number, check_interval
from conformal_core.level._units import SMALLEST, UnitLevel, given_or, read_learned
from conformal_core.level.base import as_positive
from conformal_core.memory.base import Memory


class DecayingStep(UnitLevel):
    """Online gradient descent on the threshold: q_{t+1} = q_t + η_t(err_t − α) with η_t = scale · t^(−½−ε).

    Parameters
    ----------
    alpha
        Long-run miscoverage, in (0, 1).
    start
        First threshold q₁, in the units of the score. If None, the conformal quantile of the calibration scores.
    scale
        First step η₁ > 0, in the units of the score. If None, the distance from the smallest calibration score to that
        quantile.
    epsilon
        ε in [0, ½]: 0 adapts longest, larger values converge sooner. With ½ the step is scale/t.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number in its range. ValueError from :meth:`threshold` and :meth:`update` where
        ``start`` or ``scale`` was neither given nor learned.

    Notes
    -----
    Guarantees, if labels arrive before the next prediction: if all scores and ``start`` lie in an interval of length B,
    ``|mean err − α| ≤ (B + η₁)/(T η_T) = (B/scale + 1) T^(ε − ½)`` after each number T of steps, which tends to 0 for ε
    < ½ and is void for ε = ½; and on i.i.d. scores with 0 < ε < ½ the threshold converges to their quantile, if it
    is unique. Angelopoulos, Barber and Bates, *Online conformal prediction with decaying step sizes* (2024). B is 1 for
    LAC; an APS score is at most 1, or 2 for a label without mass. O(1) per step.

    Examples
    --------
    >>> level = DecayingStep(alpha=0.1, start=1.0, scale=0.1)
    >>> level.update(0.4, level.threshold())
    >>> level.threshold()
    0.99
    """

    _kind, _saved = "DecayingStep", ("alpha", "start", "scale", "epsilon")

    def __init__(
        self, *, alpha: Alpha, start: float | None = None, scale: float | None = None, epsilon: float = 0.1
    ) -> None:
        super().__init__()
        self.alpha: Fraction = miscoverage(alpha)
        self._given_start = None if start is None else check_finite_number("start", start)
        self._given_scale = None if scale is None else float(as_positive("scale", scale))
        self._epsilon = check_interval("epsilon", epsilon, "[0, 0.5]")
        self._qhat, self._scale = self._given_start, self._given_scale

    def threshold(self, memory: Memory | None = None, /) -> float:
        """Return q_t."""
        self._known("scale", self._scale)
        return self._known("start", self._qhat)

    def update(self, score: float, threshold: float, memory: Memory | None = None, /) -> None:
        """Raise the threshold after a miss and lower it after a hit, by decreasing steps."""
        qhat, scale = self._known("start", self._qhat), self._known("scale", self._scale)
        self._steps += 1
        step = scale * self._steps ** (-0.5 - self._epsilon)
        self._qhat = qhat + step * ((score > threshold) - float(self.alpha))

    def take_units(self, scores: Sequence[float], /) -> None:
        """Start at the conformal quantile, with its distance from the smallest score as first step."""
        self._qhat = given_or(self._given_start, self._first(scores))
        self._scale = given_or(self._given_scale, self._spread(scores))

    def _learned(self) -> State:
        return {"qhat": self._qhat, "unit": self._scale, "steps": self._steps}

    def _restore(self, state: State) -> None:
        qhat = read_learned(state, "qhat", self._given_start)
        scale = read_learned(state, "unit", self._given_scale, least=SMALLEST)
        self._steps = read_count(state, "steps")
        self._qhat, self._scale = qhat, scale
