"""Conformal PID control of the threshold."""

import math
from collections.abc import Callable
from fractions import Fraction

from conformal_core._rank import miscoverage
from conformal_core._state import State, check_state, read_count, read_number
from conformal_core.level.base import finite, positive
from conformal_core.memory.base import Memory
from conformal_core.quantile import Alpha

_PERIOD = math.pi / 2


class ConformalPID:
    """Conformal PID: quantile tracking (P), a saturated integral of the error (I), and a forecast of the score (D).

    q_{t+1} = p_{t+1} + r_t(Σ_{i≤t}(err_i − α)) + g_{t+1}, where p_{t+1} = p_t + η(err_t − α) tracks the quantile of the
    forecast's errors, r_t(x) = K_I · tan(x · log t / (t · C_sat)) grows without bound when the sum of errors does, and
    g is the forecast.

    Parameters
    ----------
    alpha
        Miscoverage to keep in the long run, in (0, 1).
    start
        First threshold, in the units of the score.
    rate
        Step η > 0 of the tracker, in the units of the score.
    integral
        Gain K_I ≥ 0 of the integrator, in the units of the score; 0 leaves it out.
    saturation
        C_sat > 0: the smaller, the sooner the integrator acts; after t steps it holds ``|mean err − α|`` to about
        π/2 · C_sat / log t.
    forecast
        From the last score (None at the start) to a guess of the next, for example a model of a season; None: no
        forecast.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number in its range, or ``forecast`` cannot be called.

    Notes
    -----
    Guarantee: for any bounded scores and any forecast, mean err → α, because the integrator admits every threshold when
    the error sum nears saturation; with ``integral=0`` and no forecast it is quantile tracking, with ``|mean err − α| ≤
    (B + η)/(ηT)`` for scores in [0, B]. Angelopoulos, Candès and Tibshirani, *Conformal PID control for time series
    prediction* (2023). The memory is never asked. O(1) a step, beside the forecast.

    Examples
    --------
    >>> from conformal_core import History
    >>> level = ConformalPID(alpha=0.1, start=0.5, rate=0.1, integral=0.0)
    >>> level.update(0.7, level.threshold(History()), History())
    >>> level.threshold(History())
    0.59
    """

    def __init__(
        self,
        *,
        alpha: Alpha,
        start: float = 1.0,
        rate: float = 0.05,
        integral: float = 0.2,
        saturation: float = 1.0,
        forecast: Callable[[float | None], float] | None = None,
    ) -> None:
        self.alpha: Fraction = miscoverage(alpha)
        self._rate = float(positive("rate", rate))
        self._saturation = float(positive("saturation", saturation))
        self._integral = finite("integral", integral)
        if self._integral < 0:
            raise ValueError(f"integral must be at least 0, got {integral}")
        if forecast is not None and not callable(forecast):
            raise TypeError(f"forecast must be callable, got {type(forecast).__name__}")
        self._forecast = forecast
        self._tracked = finite("start", start)
        self._errors = 0.0
        self._steps = 0
        self._guess = 0.0 if forecast is None else float(forecast(None))

    def threshold(self, memory: Memory, /) -> float:
        """Return the threshold of the next set; ±∞ where the integrator is saturated."""
        return self._tracked + self._integrator() + self._guess

    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Move all three parts."""
        error = (score > threshold) - float(self.alpha)
        self._tracked += self._rate * error
        self._errors += error
        self._steps += 1
        if self._forecast is not None:
            self._guess = float(self._forecast(score))

    def _integrator(self) -> float:
        if not self._integral or self._steps < 2:
            return 0.0
        angle = self._errors * math.log(self._steps) / (self._steps * self._saturation)
        if abs(angle) >= _PERIOD:
            return math.copysign(math.inf, angle)
        return self._integral * math.tan(angle)

    def state_dict(self) -> State:
        """Return tracker, error sum, steps and the last guess; what the forecast knows is for its owner to save."""
        return {
            "kind": "ConformalPID",
            "version": 1,
            **self._settings(),
            "tracked": self._tracked,
            "errors": self._errors,
            "steps": self._steps,
            "guess": self._guess,
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state; ValueError says what does not fit."""
        check_state(state, "ConformalPID", {"tracked", "errors", "steps", "guess"}, **self._settings())
        tracked, errors, guess = (read_number(state, key) for key in ("tracked", "errors", "guess"))
        self._steps = read_count(state, "steps")
        self._tracked, self._errors, self._guess = tracked, errors, guess

    def _settings(self) -> State:
        return {
            "alpha": str(self.alpha),
            "rate": self._rate,
            "integral": self._integral,
            "saturation": self._saturation,
        }
