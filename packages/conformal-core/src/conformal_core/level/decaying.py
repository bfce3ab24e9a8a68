"""Quantile tracking with a decaying step."""

from fractions import Fraction

from conformal_core._rank import miscoverage
from conformal_core._state import State, check_state, read_count, read_number
from conformal_core.level.base import finite, positive
from conformal_core.memory.base import Memory
from conformal_core.quantile import Alpha


class DecayingStep:
    """Online gradient descent on the threshold: q_{t+1} = q_t + η_t(err_t − α) with η_t = scale · t^(−½−ε).

    Parameters
    ----------
    alpha
        Miscoverage to keep in the long run, in (0, 1).
    start
        First threshold q₁, in the units of the score; 1 is the largest LAC or APS score, so that the first sets are
        full.
    scale
        First step η₁ > 0, in the units of the score.
    epsilon
        ε in [0, ½]: 0 adapts longest, larger values settle sooner. With ½ the step is scale/t.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number in its range.

    Notes
    -----
    Guarantees: for any scores in [0, B], ``|mean err − α| ≤ (B + max η)/T · (1/η₁ + Σ|1/η_t − 1/η_{t−1}|)`` after T
    steps, and on i.i.d. scores with 0 < ε < ½ the threshold converges to the quantile. Angelopoulos, Barber and Bates,
    *Online conformal prediction with decaying step sizes* (2024). The memory is never asked. O(1) a step.

    Examples
    --------
    >>> from conformal_core import History
    >>> level = DecayingStep(alpha=0.1, start=1.0, scale=0.1)
    >>> level.update(0.4, level.threshold(History()), History())
    >>> level.threshold(History())
    0.99
    """

    def __init__(self, *, alpha: Alpha, start: float = 1.0, scale: float = 1.0, epsilon: float = 0.1) -> None:
        self.alpha: Fraction = miscoverage(alpha)
        self._scale = float(positive("scale", scale))
        self._epsilon = finite("epsilon", epsilon)
        if not 0 <= self._epsilon <= 0.5:
            raise ValueError(f"epsilon must lie in [0, 0.5], got {epsilon}")
        self._qhat = finite("start", start)
        self._steps = 0

    def threshold(self, memory: Memory, /) -> float:
        """Return q_t."""
        return self._qhat

    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Raise the threshold after a miss, lower it after a hit, ever less."""
        self._steps += 1
        step = self._scale * self._steps ** (-0.5 - self._epsilon)
        self._qhat += step * ((score > threshold) - float(self.alpha))

    def state_dict(self) -> State:
        """Return the threshold and the number of steps."""
        return {
            "kind": "DecayingStep",
            "version": 1,
            "alpha": str(self.alpha),
            "scale": self._scale,
            "epsilon": self._epsilon,
            "qhat": self._qhat,
            "steps": self._steps,
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state; ValueError says what does not fit."""
        settings = {"alpha": str(self.alpha), "scale": self._scale, "epsilon": self._epsilon}
        check_state(state, "DecayingStep", {"qhat", "steps"}, **settings)
        self._qhat, self._steps = read_number(state, "qhat"), read_count(state, "steps")
