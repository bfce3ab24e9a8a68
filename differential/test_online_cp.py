"""Agreement of online-cp: martingales, alarms and metrics."""

from collections.abc import Callable, Iterator

import inputs
import numpy as np
import ours
import pytest
from agreement import Cells, agrees

import conformal_core as cc

pytest.importorskip("online_cp")

from online_cp import martingale, metrics
from online_cp.betting import BetaMoments
from online_cp.prediction_set import ContinuousPredictionSet

JUMPS = (0.0001, 0.001, 0.01, 0.1, 1.0)
SEEDS = 3  # few, since online-cp takes long
BROKE, NO_DENSITY, FALLEN = "factor 0", "p = 1, or density 0", "statistic below 1"


def log_values(theirs: martingale.PluginMartingale, stream: np.ndarray) -> np.ndarray:
    """Return the logarithms of the martingale after each p-value of a stream."""
    for p in stream.tolist():
        theirs.update(p)
    return np.asarray(theirs.log_martingale_values[1:])


@agrees
def test_simple_jumper() -> Iterator[Cells]:
    for stream in inputs.p_value_streams(SEEDS):
        for jump in (0.001, 0.1):
            for one_sided, bets in ((False, None), (True, [-2, -1, -0.5, 0])):
                log_capital = ours.log_capital(cc.SimpleJumper(jump=jump, one_sided=one_sided), stream)
                theirs = martingale.SimpleJumper(J=jump, E=bets, store_p_values=False)
                broke = np.logical_or.accumulate(stream == 1) & one_sided  # 1 − 2 (p − ½) = 0
                yield Cells(log_capital, log_values(theirs, stream), {BROKE: broke}, inputs.SUMS)


@agrees
def test_composite_jumper() -> Iterator[Cells]:
    for stream in inputs.p_value_streams(SEEDS):
        parts = [cc.SimpleJumper(jump=jump, one_sided=False) for jump in JUMPS]
        theirs = log_values(martingale.CompositeJumper(J=list(JUMPS), store_p_values=False), stream)
        yield Cells(ours.log_capital(cc.MixtureMartingale(parts), stream), theirs, tolerance=inputs.SUMS)


@agrees
def test_plugin() -> Iterator[Cells]:
    for stream in inputs.p_value_streams(SEEDS):
        bets, strategy = cc.PluginMartingale(stake=1.0), BetaMoments()
        densities = np.empty(len(stream))
        for place, p in enumerate(stream.tolist()):
            densities[place] = strategy.bet(p)
            strategy.update(p)
        growth = [bets.bet(p) for p in stream.tolist()]
        with np.errstate(divide="ignore"):
            yield Cells(growth, np.log(densities), {NO_DENSITY: (stream == 1) | (densities == 0)}, inputs.SUMS)


@agrees
def test_cusum() -> Iterator[Cells]:
    yield from _alarms("cusum", martingale.CUSUMWrapper, lambda wrapper: wrapper.log_gamma)


@agrees
def test_shiryaev_roberts() -> Iterator[Cells]:
    yield from _alarms("shiryaev-roberts", martingale.ShiryaevRobertsWrapper, lambda wrapper: np.log(wrapper.R))


def _alarms(alarm: str, wrap: Callable, statistic: Callable) -> Iterator[Cells]:
    for scores in inputs.score_streams(SEEDS):
        test = cc.ExchangeabilityTest(alarm=alarm, martingale=cc.SimpleJumper(jump=0.01, one_sided=False))
        monitored, wrapper = ours.monitored(test, scores), wrap(martingale.SimpleJumper(J=0.01))
        theirs = np.empty(len(scores))
        for place, p in enumerate(monitored.p_values.tolist()):
            wrapper.update(p)
            theirs[place] = statistic(wrapper)
        yield Cells(monitored.log_statistic, theirs, {FALLEN: monitored.log_statistic < 0}, inputs.SUMS)


@agrees
def test_time_of_alarm() -> Iterator[Cells]:
    for scores in inputs.score_streams(SEEDS):
        for delta in (0.5, 0.1, 0.01):
            test = cc.ExchangeabilityTest(delta=delta, martingale=cc.SimpleJumper(jump=0.01, one_sided=False))
            ville = martingale.VilleWrapper(martingale.SimpleJumper(J=0.01), threshold=1 / delta)
            alarmed = np.empty((2, len(scores)), dtype=bool)
            for place, score in enumerate(scores.tolist()):
                alarmed[0, place] = test.update(score)
                ville.update(test.p_value)
                alarmed[1, place] = ville.rejected
            yield Cells(*alarmed)


@agrees
def test_interval_score() -> Iterator[Cells]:
    for case in inputs.forecasts(test=50):
        ends = np.stack([case.test_predictions - case.test_sigmas, case.test_predictions + case.test_sigmas], axis=1)
        for alpha in (0.01, 0.1, 0.5):
            score = metrics.WinklerScore()
            for (low, high), target in zip(ends.tolist(), case.test_targets.tolist(), strict=True):
                score.update(target, ContinuousPredictionSet((low, high), alpha))
            scores = cc.interval_score(ends, case.test_targets, alpha=alpha)
            yield Cells(scores, score.values, tolerance=inputs.precision(case.targets))
