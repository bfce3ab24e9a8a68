"""Results of conformal-core that several libraries are compared with."""

import numpy as np
from inputs import Forecasts, Rows

import conformal_core as cc
from conformal_core.exchangeability.jumper import SimpleJumper


def sets(score: cc.Score, case: Rows, alpha: float) -> np.ndarray:
    """Prediction sets (m, K) of the test rows."""
    predictor = cc.SplitClassifier(score, alpha=alpha)
    predictor.calibrate(case.probs, case.labels)
    return predictor.predict(case.test)


def p_values(score: cc.Score, case: Rows) -> np.ndarray:
    """p-values (m, K) of all labels of the test rows."""
    return cc.p_values(score(case.probs, case.labels), score(case.test))


def intervals(case: Forecasts, alpha: float, *, normalized: bool) -> np.ndarray:
    """Intervals (m, 2) of the test rows from absolute or normalized residuals."""
    if not normalized:
        predictor = cc.SplitRegressor(cc.AbsoluteResidual(), alpha=alpha)
        predictor.calibrate(case.predictions, case.targets)
        return predictor.predict(case.test_predictions)
    predictor = cc.SplitRegressor(cc.NormalizedResidual(), alpha=alpha)
    predictor.calibrate(np.stack([case.predictions, case.sigmas], axis=1), case.targets)
    return predictor.predict(np.stack([case.test_predictions, case.test_sigmas], axis=1))


def jumper(jump: float, stream: np.ndarray) -> np.ndarray:
    """Logarithm of the two-sided Simple Jumper after each p-value, (T,)."""
    martingale = SimpleJumper(jump=jump, one_sided=False)
    values = np.empty(len(stream))
    for place, p in enumerate(stream.tolist()):
        martingale.update(p)
        values[place] = martingale.log_value
    return values
