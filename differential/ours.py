"""Results of conformal-core that several libraries are compared with."""

from typing import NamedTuple

import numpy as np
from inputs import Forecasts, Rows

import conformal_core as cc


def sets(score: cc.ClassificationScore, case: Rows, alpha: float) -> np.ndarray:
    """Prediction sets (m, K) of the test rows."""
    predictor = cc.SplitClassifier(score, alpha=alpha)
    predictor.calibrate(case.probs, case.labels)
    return predictor.predict(case.test)


def p_values(score: cc.ClassificationScore, case: Rows) -> np.ndarray:
    """p-values (m, K) of all labels of the test rows."""
    return cc.p_values(score(case.probs, case.labels), score(case.test))


def intervals(case: Forecasts, alpha: float, *, normalized: bool) -> np.ndarray:
    """Intervals (m, 2) of the test rows from absolute or normalized residuals."""
    predictor = cc.SplitRegressor(residual(normalized=normalized), alpha=alpha)
    predictor.calibrate(case.rows(normalized=normalized), case.targets)
    return predictor.predict(case.test_rows(normalized=normalized))


def residual(*, normalized: bool) -> cc.AbsoluteResidual | cc.NormalizedResidual:
    """Return the score of absolute or normalized residuals."""
    return cc.NormalizedResidual() if normalized else cc.AbsoluteResidual()


def predictive_system(case: Forecasts, *, normalized: bool) -> cc.PredictiveSystem:
    """Return a calibrated predictive system of absolute or normalized residuals."""
    system = cc.PredictiveSystem(residual(normalized=normalized))
    system.calibrate(case.rows(normalized=normalized), case.targets)
    return system


def one_sided(case: Forecasts, side: str, alpha: float) -> cc.SplitRegressor:
    """Return a regressor of the lower or the upper ends, calibrated."""
    predictor = cc.SplitRegressor(cc.AbsoluteResidual(side=side), alpha=alpha)
    predictor.calibrate(case.predictions, case.targets)
    return predictor


def log_capital(martingale: cc.Martingale, stream: np.ndarray) -> np.ndarray:
    """Logarithm of the capital after each p-value of a stream, (T,)."""
    return np.cumsum([martingale.bet(p) for p in stream.tolist()])


class Monitored(NamedTuple):
    """p-values, logarithms of the martingale and of the alarm's statistic after each score, each (T,)."""

    p_values: np.ndarray
    log_martingale: np.ndarray
    log_statistic: np.ndarray


def monitored(test: cc.ExchangeabilityTest, scores: np.ndarray) -> Monitored:
    """Monitor a stream of scores."""
    rows = []
    for score in scores.tolist():
        test.update(score)
        rows.append((test.p_value, test.log_martingale, test.log_statistic))
    return Monitored(*np.asarray(rows).T)
