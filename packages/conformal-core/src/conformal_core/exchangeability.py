"""Test of exchangeability on a stream: smoothed p-values, and an alarm with a bound on false alarms."""

import math
import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from conformal_core._arrays import array_namespace
from conformal_core._convert import as_floating
from conformal_core._settings import Saved
from conformal_core._state import State, load_together, read_count, read_number, refuse_if
from conformal_core.checks import check_choice, check_count, check_type
from conformal_core.martingales import Martingale, SimpleJumper
from conformal_core.memory.ordered import History
from conformal_core.quantile import Alpha, miscoverage

_BLOCK = 1024  # draws at a time

Array = Any
Alarm = Literal["ville", "cusum", "shiryaev-roberts"]
_NEGLIGIBLE = 40.0  # logarithm of a number to which 1 adds nothing in double precision


class OnlinePValues(Saved):
    """Smoothed p-values of scores against all earlier ones: independent and uniform if the scores are exchangeable.

    p_n = (#{i < n: s_i > s_n} + u_n (#{i < n: s_i = s_n} + 1)) / n, where u_n depends only on the seed and n (Vovk,
    Gammerman and Shafer 2005).
    """

    _kind, _saved = "OnlinePValues", ("seed",)

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = check_count("seed", seed, least=0)
        self._memory = History()
        self._draws = 0
        self._block: list[float] = []

    def calibrate(self, scores: list[float]) -> None:
        """Replace all scores by these finite ones, which get no p-value; the draws go on."""
        self._memory.reset()
        self._memory.extend(np.asarray(scores, dtype=np.float64), check=False)

    def add(self, score: float) -> float:
        """Add a finite score and return its p-value, in (0, 1]."""
        place = self._draws % _BLOCK
        if place == 0 or not self._block:
            rng = np.random.default_rng((self._seed, self._draws // _BLOCK))
            self._block = (1.0 - rng.random(_BLOCK)).tolist()  # above 0
        self._draws += 1
        memory = self._memory
        above, equal = memory.counts(score)
        p_value: float = (above + self._block[place] * (equal + 1)) / (len(memory) + 1)
        memory.add(score)
        return p_value

    def _learned(self) -> State:
        return {"draws": self._draws, "memory": self._memory.state_dict()}

    def _restore(self, state: State) -> None:
        draws = read_count(state, "draws")
        self._memory.load_state_dict(state["memory"])
        self._draws, self._block = draws, []


def _log_of_one_more(log: float) -> float:
    return log if log > _NEGLIGIBLE else math.log1p(math.exp(log))


# Logarithm of the capital that the next step multiplies, from that of the statistic.
_CARRIED: dict[str, Callable[[float], float]] = {
    "ville": lambda log: log,
    "cusum": lambda log: max(log, 0.0),
    "shiryaev-roberts": _log_of_one_more,
}


class ExchangeabilityTest(Saved):
    """Alarm on a stream whose scores stop being exchangeable with the earlier ones, as those of a failing sensor.

    A martingale S_n bets that the smoothed p-values of scores against all earlier ones are not uniform. The alarm is
    raised when a statistic of it reaches 1/δ.

    Parameters
    ----------
    delta
        Bound δ in (0, 1) on the probability of any false alarm (Ville), or on their number per score.
    martingale
        :class:`SimpleJumper` (the default) or another :class:`Martingale`.
    alarm
        Statistic: ``"ville"``, S_n; ``"cusum"``, max over i < n of S_n/S_i; ``"shiryaev-roberts"``, the sum of these
        ratios. The last two find a change after a long unchanged stream as fast as an early one.
    seed
        Seed of the draws that smooth the p-values.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind or out of range.

    Attributes
    ----------
    martingale : Martingale
    log_martingale, log_statistic : float
        Natural logarithms of S_n and of the statistic, which starts at S_0 = 1, or for the last two alarms at 0.
    p_value : float
        p-value of the last score, 1 before the first.

    Notes
    -----
    Guarantee: if the calibration scores and those of the stream are exchangeable, the probability of a Ville alarm at
    any time is at most δ, and the mean number of scores before another alarm at least 1/δ, anew from each ``restart``
    and ``calibrate``. Vovk et al., *Retrain or not retrain: conformal test martingales for change-point detection*
    (2021).

    The scores of the stream join the memory, so the alarm may miss a small change after few calibration scores.
    O(log n) per score, O(n) memory.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> test = ExchangeabilityTest(delta=0.01)
    >>> test.calibrate(rng.normal(size=200))
    >>> test.update(rng.normal(size=500))
    False
    >>> next(step for step in range(1, 100) if test.update(rng.normal() + 2.0))
    23
    """

    _kind, _saved = "ExchangeabilityTest", ("delta", "alarm", "seed")
    p_value: float
    log_martingale: float
    log_statistic: float

    def __init__(
        self, *, delta: Alpha = 0.01, martingale: Martingale | None = None, alarm: Alarm = "ville", seed: int = 0
    ) -> None:
        self._delta = float(miscoverage(delta, "delta"))
        check_type("martingale", martingale, (Martingale, type(None)), "be a Martingale, such as SimpleJumper()")
        self._alarm, self._given_martingale = check_choice("alarm", alarm, Alarm), martingale
        self._p_values, self._seed = OnlinePValues(seed=seed), int(seed)
        self.martingale: Martingale = SimpleJumper() if martingale is None else martingale
        self._carried, self._limit = _CARRIED[self._alarm], -math.log(self._delta)
        self.p_value = 1.0
        self._start()

    def _start(self) -> None:
        self._peak = self.log_martingale = 0.0
        self.log_statistic = 0.0 if self._alarm == "ville" else -math.inf

    @property
    def alarmed(self) -> bool:
        """Whether the statistic has reached 1/δ since the start, ``calibrate`` or ``restart``."""
        return self._peak >= self._limit

    def calibrate(self, scores: Array) -> None:
        """Replace all scores by calibration scores of any shape, and restart; see :meth:`update`."""
        self._p_values.calibrate(_floats(scores))
        self.p_value = 1.0
        self.restart()

    def update(self, scores: Array | float) -> bool:
        """Add the next score, or scores of any shape in row-major order, and return ``alarmed``.

        A score of +∞, as of a row that cannot be measured, counts as the largest finite number.

        Raises
        ------
        TypeError
            If ``scores`` is not a number or an array of numbers.
        ValueError
            If a score is NaN or −∞; none is added then.
        """
        for score in _floats(scores):
            self.p_value = p_value = self._p_values.add(score)
            growth = self.martingale.bet(p_value)
            self.log_martingale += growth
            self.log_statistic = statistic = self._carried(self.log_statistic) + growth
            self._peak = max(self._peak, statistic)
        return self._peak >= self._limit

    def restart(self) -> None:
        """Set the martingale back to 1 and clear the alarm; the scores remain in the memory."""
        self.martingale.reset()
        self._start()

    def _learned(self) -> State:
        return {
            "p_values": self._p_values.state_dict(),
            "martingale": self.martingale.state_dict(),
            "log_martingale": self.log_martingale,
            "log_statistic": None if self.log_statistic == -math.inf else self.log_statistic,
            "peak": self._peak,
            "p_value": self.p_value,
        }

    def _restore(self, state: State) -> None:
        peak, p_value = read_number(state, "peak", least=0.0), read_number(state, "p_value", least=0.0)
        refuse_if(p_value > 1, state, "a p_value in [0, 1]", p_value)
        log_martingale = read_number(state, "log_martingale")
        log_statistic = -math.inf if state["log_statistic"] is None else read_number(state, "log_statistic")
        load_together((self._p_values, state["p_values"]), (self.martingale, state["martingale"]))
        self._peak, self.p_value = peak, p_value
        self.log_martingale, self.log_statistic = log_martingale, log_statistic


def _floats(scores: Array | float) -> list[float]:
    if isinstance(scores, float) and -math.inf < scores < math.inf:  # also a scalar of numpy
        return [float(scores)]
    array = as_floating("scores", scores)
    flat = array_namespace(scores=array).reshape(array, (-1,))
    values = flat.tolist() if hasattr(flat, "tolist") else [float(score) for score in flat]
    for place, score in enumerate(values):
        if not score > -math.inf:  # also true for NaN
            raise ValueError(f"scores must not be NaN or -inf, got {score} at index {place}")
    return [min(score, sys.float_info.max) for score in values]
