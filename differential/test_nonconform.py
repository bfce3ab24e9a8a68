"""Agreement of nonconform: p-values, weighted p-values, selection, martingales and alarms."""

import logging
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

import inputs
import numpy as np
import ours
import pytest
from agreement import Cells, agrees

import conformal_core as cc

if find_spec("nonconform") is None:
    pytest.skip("nonconform is not installed", allow_module_level=True)
if sys.version_info < (3, 12):  # one module has the syntax of Python 3.12; nothing here needs its functions
    stub = ModuleType("nonconform._internal.log_utils")
    stub.ensure_numpy_array, stub.get_logger = lambda function: function, logging.getLogger
    sys.modules[stub.__name__] = stub

from nonconform.martingales import MixtureMartingale, PowerMartingale, SimpleMixtureMartingale
from nonconform.monitoring import SequentialRankConformalizer
from nonconform.scoring import Empirical, calculate_weighted_p_val
from scipy.stats import false_discovery_control

EXPONENTS = (0.1, 0.5, 0.9)


@agrees
def test_p_values() -> Iterator[Cells]:
    for case in inputs.scores():
        yield Cells(cc.p_values(*case), Empirical().compute_p_values(case.test, case.calibration))


@agrees
def test_smoothed_p_values() -> Iterator[Cells]:
    for case in inputs.scores():
        theirs = Empirical(tie_break="randomized")
        theirs.set_seed(0)
        u = np.random.default_rng(0).uniform(size=len(case.test))
        yield Cells(cc.p_values(*case, u=u), theirs.compute_p_values(case.test, case.calibration))


@agrees
def test_smoothed_p_values_of_streams() -> Iterator[Cells]:
    for case in inputs.scores():
        memory, rng = cc.History(), np.random.default_rng(0)
        smoothed = np.empty(len(case.test))
        for place, score in enumerate(case.test):
            smoothed[place] = memory.p_values(score[None], u=rng.uniform())[0]
            memory.add(float(score))
        yield Cells(smoothed, SequentialRankConformalizer(seed=0).update_many(case.test))


def weights(n: int, m: int, dtype: np.dtype) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield weights of N calibration rows and m test rows: whole, real and equal ones."""
    rng = np.random.default_rng(n)
    for drawn in (rng.integers(1, 9, size=n + m), rng.gamma(2.0, size=n + m), np.ones(n + m)):
        yield drawn[:n].astype(dtype), drawn[n:].astype(dtype)


@agrees
def test_weighted_p_values() -> Iterator[Cells]:
    for case in inputs.scores():
        for known, new in weights(len(case.calibration), len(case.test), case.test.dtype):
            theirs = calculate_weighted_p_val(case.test, case.calibration, new, known)
            yield Cells(cc.weighted_p_values(case.calibration, known, case.test, new), theirs, {}, inputs.SUMS)
            rng, options = np.random.default_rng(0), {"tie_break": "randomized", "rng": np.random.default_rng(0)}
            smoothed = calculate_weighted_p_val(case.test, case.calibration, new, known, **options)
            p = cc.weighted_p_values(case.calibration, known, case.test, new, u=rng.uniform(size=len(case.test)))
            yield Cells(p, smoothed, {}, inputs.SUMS)


@agrees
def test_weighted_sets() -> Iterator[Cells]:
    for case in inputs.scores():
        for known, new in weights(len(case.calibration), len(case.test), case.test.dtype):
            p = calculate_weighted_p_val(case.test, case.calibration, new, known)
            for alpha in inputs.ALPHAS:
                qhat = cc.weighted_conformal_quantile(case.calibration, known, new, alpha=alpha)
                yield Cells(case.test <= qhat, p > alpha)


@agrees
def test_selection() -> Iterator[Cells]:
    for case in inputs.scores():
        ranked, m = cc.p_values(*case), len(case.test)
        for alpha in inputs.ALPHAS:
            theirs = false_discovery_control(ranked) <= alpha  # as nonconform selects
            yield Cells(cc.benjamini_hochberg(ranked, alpha=alpha), theirs)
            for k in (1, 2, 64, m):  # exactly k rows, at the limit
                p = np.where(np.arange(m) < k, alpha * k / m, 1.0)
                yield Cells(cc.benjamini_hochberg(p, alpha=alpha), false_discovery_control(p) <= alpha)


@agrees
def test_power() -> Iterator[Cells]:
    for stream in inputs.p_value_streams(seeds=10):
        for epsilon in EXPONENTS:
            theirs = [state.log_martingale for state in PowerMartingale(epsilon).update_many(stream)]
            yield Cells(ours.log_capital(cc.PowerMartingale(epsilon=epsilon), stream), theirs, {}, inputs.SUMS)


@agrees
def test_mixture() -> Iterator[Cells]:
    for stream in inputs.p_value_streams(seeds=5):
        capital = ours.log_capital(cc.MixtureMartingale([cc.PowerMartingale(epsilon=e) for e in EXPONENTS]), stream)
        for theirs in (
            SimpleMixtureMartingale(EXPONENTS),
            MixtureMartingale([PowerMartingale(epsilon) for epsilon in EXPONENTS]),
        ):
            states = theirs.update_many(stream)
            yield Cells(capital, [state.log_martingale for state in states], tolerance=inputs.SUMS)


@agrees
def test_alarms() -> Iterator[Cells]:
    for scores in inputs.score_streams():
        for alarm, name in (("cusum", "log_cusum"), ("shiryaev-roberts", "log_shiryaev_roberts")):
            test = cc.ExchangeabilityTest(alarm=alarm, martingale=cc.PowerMartingale(epsilon=0.5))
            monitored = ours.monitored(test, scores)
            theirs = [getattr(state, name) for state in PowerMartingale(0.5).update_many(monitored.p_values)]
            yield Cells(monitored.log_statistic, theirs, tolerance=inputs.SUMS)
