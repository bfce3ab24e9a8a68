"""Levels that track the quantile of the scores: decaying steps, and PID control."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from conformal_core._state import State, read_count, read_number
from conformal_core.checks import check_callable, check_finite_number, check_interval
from conformal_core.level.base import SMALLEST, UnitLevel, as_positive, given_or, read_learned
from conformal_core.memory.base import Memory
from conformal_core.quantile import Alpha, miscoverage

_PERIOD = math.pi / 2
_RATE, _INTEGRAL = 0.05, 0.2  # of the unit that calibration scores give


class DecayingStep(UnitLevel):
    """Online gradient descent on the threshold: q_{t+1} = q_t + η_t(err_t − α) with η_t = rate · t^(−½−ε).

    Parameters
    ----------
    alpha
        Long-run miscoverage, in (0, 1).
    start
        First threshold q₁, in the units of the score. If None, the conformal quantile of the calibration scores.
    rate
        First step η₁ > 0, in the units of the score. If None, the distance from the smallest calibration score to that
        quantile.
    epsilon
        ε in [0, ½]: 0 adapts longest, larger values converge sooner.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or range. ValueError from :meth:`threshold` and :meth:`update` if a unit was
        neither given nor learned.

    Notes
    -----
    Guarantees, if labels arrive before the next prediction: if all scores and ``start`` lie in an interval of length B
    (1 for LAC), ``|mean err − α| ≤ (B + η₁)/(T η_T) = (B/rate + 1) T^(ε − ½)`` after each number T of steps; and on
    i.i.d. scores with 0 < ε < ½ the threshold converges to their quantile, if it is unique. Angelopoulos, Barber and
    Bates, *Online conformal prediction with decaying step sizes* (2024). O(1) per step.

    Examples
    --------
    >>> level = DecayingStep(alpha=0.1, start=1.0, rate=0.1)
    >>> level.update(0.4, level.threshold())
    >>> level.threshold()
    0.99
    """

    _kind, _saved = "DecayingStep", ("alpha", "start", "rate", "epsilon")

    def __init__(
        self, *, alpha: Alpha, start: float | None = None, rate: float | None = None, epsilon: float = 0.1
    ) -> None:
        super().__init__()
        self.alpha: Fraction = miscoverage(alpha)
        self._given_start = None if start is None else check_finite_number("start", start)
        self._given_rate = None if rate is None else float(as_positive("rate", rate))
        self._epsilon = check_interval("epsilon", epsilon, "[0, 0.5]")
        self._qhat, self._rate = self._given_start, self._given_rate

    def threshold(self, memory: Memory | None = None, /) -> float:
        """Return q_t."""
        self._known("rate", self._rate)
        return self._known("start", self._qhat)

    def update(self, score: float, threshold: float, memory: Memory | None = None, /) -> None:
        """Raise the threshold after a miss and lower it after a hit, by decreasing steps."""
        qhat, rate = self._known("start", self._qhat), self._known("rate", self._rate)
        self._steps += 1
        step = rate * self._steps ** (-0.5 - self._epsilon)
        self._qhat = qhat + step * ((score > threshold) - float(self.alpha))

    def take_units(self, scores: Sequence[float], /) -> None:
        """Start at the conformal quantile, with its distance from the smallest score as first step."""
        self._qhat = given_or(self._given_start, self._first(scores))
        self._rate = given_or(self._given_rate, self._spread(scores))

    def _learned(self) -> State:
        return {"qhat": self._qhat, "step": self._rate, "steps": self._steps}

    def _restore(self, state: State) -> None:
        qhat = read_learned(state, "qhat", self._given_start)
        rate = read_learned(state, "step", self._given_rate, least=SMALLEST)
        self._steps = read_count(state, "steps")
        self._qhat, self._rate = qhat, rate


class ConformalPID(UnitLevel):
    """Conformal PID: quantile tracking (P), a saturated integral of the error (I), and a forecast of the score (D).

    q_{t+1} = p_{t+1} + r_t(Σ_{i≤t}(err_i − α)) + g_{t+1}, where p_{t+1} = p_t + η(err_t − α) tracks the quantile of the
    forecast's errors, r_t(x) = K_I · tan(x · log t / (t · C_sat)), and g is the forecast.

    Parameters
    ----------
    alpha
        Long-run miscoverage, in (0, 1).
    start
        First value of the tracker, in the units of the score. If None, the first threshold is the conformal quantile of
        the calibration scores.
    rate
        Step η > 0 of the tracker, in the units of the score. If None, a twentieth of the distance of that quantile from
        the smallest calibration score.
    integral
        Gain K_I ≥ 0 of the integrator, in the units of the score; 0 disables it. If None, a fifth of that distance.
    saturation
        C_sat > 0: the integrator acts sooner if it is smaller.
    forecast
        Maps the last score (None at the start) to a prediction of the next, for example by a seasonal model. If None,
        there is no forecast.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its kind or range. ValueError from :meth:`threshold` and :meth:`update` if a unit was
        neither given nor learned.

    Notes
    -----
    Guarantees, if labels arrive before the next prediction: with an integrator, for any scores and any forecast,
    ``|mean err − α| ≤ π/2 · C_sat / log T + 2/T`` after each number T ≥ 2 of steps. With ``integral=0`` and no forecast
    ``|mean err − α| ≤ (B + η)/(ηT)`` if all scores and ``start`` lie in an interval of length B. Angelopoulos, Candès
    and Tibshirani, *Conformal PID control for time series prediction* (2023). O(1) per step, plus the forecast.

    Examples
    --------
    >>> level = ConformalPID(alpha=0.1, start=0.5, rate=0.1, integral=0.0)
    >>> level.update(0.7, level.threshold())
    >>> level.threshold()
    0.59
    """

    _kind, _saved = "ConformalPID", ("alpha", "start", "rate", "integral", "saturation")

    def __init__(
        self,
        *,
        alpha: Alpha,
        start: float | None = None,
        rate: float | None = None,
        integral: float | None = None,
        saturation: float = 1.0,
        forecast: Callable[[float | None], float] | None = None,
    ) -> None:
        super().__init__()
        self.alpha: Fraction = miscoverage(alpha)
        self._given_start = None if start is None else check_finite_number("start", start)
        self._given_rate = None if rate is None else float(as_positive("rate", rate))
        self._given_integral = None if integral is None else check_finite_number("integral", integral)
        if self._given_integral is not None and self._given_integral < 0:
            raise ValueError(f"integral must be at least 0, got {integral}")
        self._saturation = float(as_positive("saturation", saturation))
        if forecast is not None:
            check_callable("forecast", forecast)
        self._forecast = forecast
        self._tracked, self._rate, self._integral = self._given_start, self._given_rate, self._given_integral
        self._errors = 0.0
        self._guess = 0.0 if forecast is None else float(forecast(None))

    def threshold(self, memory: Memory | None = None, /) -> float:
        """Return the threshold of the next set; ±∞ if the integrator is saturated."""
        self._known("rate", self._rate)
        self._known("integral", self._integral)
        return self._known("start", self._tracked) + self._integrator() + self._guess

    def update(self, score: float, threshold: float, memory: Memory | None = None, /) -> None:
        """Update tracker, integrator and forecast."""
        tracked, rate = self._known("start", self._tracked), self._known("rate", self._rate)
        self._known("integral", self._integral)
        self._steps += 1
        error = (score > threshold) - float(self.alpha)
        self._tracked = tracked + rate * error
        self._errors += error
        if self._forecast is not None:
            self._guess = float(self._forecast(score))

    def take_units(self, scores: Sequence[float], /) -> None:
        """Start at the conformal quantile, with its distance from the smallest score as unit."""
        unit = self._spread(scores)
        self._tracked = given_or(self._given_start, self._first(scores) - self._guess)
        self._rate = given_or(self._given_rate, unit and _RATE * unit)
        self._integral = given_or(self._given_integral, unit and _INTEGRAL * unit)

    def _integrator(self) -> float:
        if not self._integral or self._steps < 2:  # left out, or not learned yet
            return 0.0
        angle = self._errors * math.log(self._steps) / (self._steps * self._saturation)
        if abs(angle) >= _PERIOD:
            return math.copysign(math.inf, angle)
        return self._integral * math.tan(angle)

    def _learned(self) -> State:  # without the state of the forecaster
        units = {"tracked": self._tracked, "step": self._rate, "gain": self._integral}
        return {**units, "errors": self._errors, "guess": self._guess, "steps": self._steps}

    def _restore(self, state: State) -> None:
        tracked = read_learned(state, "tracked", self._given_start)
        rate = read_learned(state, "step", self._given_rate, least=SMALLEST)
        integral = read_learned(state, "gain", self._given_integral, least=0.0)
        errors, guess = read_number(state, "errors"), read_number(state, "guess")
        self._steps = read_count(state, "steps")
        self._tracked, self._rate, self._integral = tracked, rate, integral
        self._errors, self._guess = errors, guess
