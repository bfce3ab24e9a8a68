"""Units of the score, in which levels move the threshold: given, or learned from calibration rows."""

import numpy as np
import pytest

from conformal_core import (
    LAC,
    SAOCP,
    AbsoluteResidual,
    ConformalPID,
    DecayingStep,
    History,
    OnlineClassifier,
    OnlineRegressor,
)

UNITS = {
    "decaying": lambda **options: DecayingStep(alpha=0.1, **options),
    "pid": lambda **options: ConformalPID(alpha=0.1, **options),
    "saocp": lambda **options: SAOCP(alpha=0.1, **options),
}


@pytest.mark.parametrize("level", UNITS)
def test_residuals_near_a_thousand_are_covered_after_calibration(level):
    """Coverage was .034 with the units of a probability, and intervals endless."""
    rng = np.random.default_rng(0)
    targets = rng.normal(scale=1000.0, size=2100)
    predictor = OnlineRegressor(AbsoluteResidual(), level=UNITS[level]())
    predictor.calibrate(np.zeros(100), targets[:100])
    hits = []
    for target in targets[100:]:
        low, high = predictor.predict(np.zeros(1))[0]
        assert np.isfinite([low, high]).all()
        hits.append(low <= target <= high)
        predictor.update(np.zeros(1), np.asarray([target]))
    assert np.mean(hits) == pytest.approx(0.9, abs=0.04)  # SAOCP has a bias of -.03


@pytest.mark.parametrize("level", UNITS)
def test_units_are_learned_where_most_scores_are_equal(level):
    """A saturated classifier: 48 of 50 scores are 0."""
    predictor = OnlineClassifier(LAC(), level=UNITS[level]())
    probs = np.tile([1.0, 0.0, 0.0], (50, 1))
    predictor.calibrate(probs, [0] * 48 + [1] * 2)
    predictor.predict(probs[0])
    predictor.update(probs[0], 0)
    same = OnlineClassifier(LAC(), level=UNITS[level]())
    same.calibrate(probs, [0] * 50)
    with pytest.raises(ValueError, match="must be given, or learned"):
        same.predict(probs[0])
    assert same.pending == 0


@pytest.mark.parametrize("level", UNITS)
def test_units_are_given_or_learned(level):
    predictor = OnlineRegressor(AbsoluteResidual(), level=UNITS[level]())
    for call in (lambda: predictor.predict(np.zeros(2)), lambda: predictor.update(np.zeros(1), np.ones(1))):
        with pytest.raises(ValueError, match=r"(start|scale|rate) of \w+ must be given, or learned by calibrate\(\)"):
            call()
    assert len(predictor.memory) == 0


def test_calibrating_in_parts_is_calibrating_at_once():
    scores = np.random.default_rng(0).exponential(size=40)
    for make in UNITS.values():
        whole, parts = make(), make()
        whole.calibrate(scores.tolist())
        for score in scores.tolist():
            parts.calibrate([score])
        assert whole.threshold(History()) == parts.threshold(History())
        np.testing.assert_equal(whole.state_dict(), parts.state_dict())
        other = make()
        other.load_state_dict(parts.state_dict())
        other.calibrate([])
        np.testing.assert_equal(other.state_dict(), parts.state_dict())


def test_calibration_rows_after_the_first_update_leave_the_level_alone():
    for make in UNITS.values():
        level = make()
        level.calibrate([0.1, 0.5, 0.9])
        level.update(0.4, level.threshold(History()), History())
        before = level.state_dict()
        level.calibrate([100.0])
        np.testing.assert_equal(level.state_dict(), before)


def test_what_calibration_teaches():
    """Of 1..19 the quantile at .1 is the 18th, 17 above the smallest; the largest is 19."""
    scores = [float(i) for i in range(1, 20)]
    decaying, pid, saocp = (make() for make in UNITS.values())
    for level in (decaying, pid, saocp):
        level.calibrate(scores)
    assert decaying.threshold(History()) == pid.threshold(History()) == 18.0
    assert saocp.threshold(History()) == 19.0
    decaying.update(50.0, 18.0, History())
    pid.update(50.0, 18.0, History())
    assert decaying.threshold(History()) == pytest.approx(18 + 17 * 0.9)
    assert pid.threshold(History()) == pytest.approx(18 + 0.05 * 17 * 0.9)


def test_what_was_given_stays():
    level = DecayingStep(alpha=0.1, start=3.0)
    level.calibrate([1.0, 2.0])
    assert level.threshold(History()) == 3.0
    level.update(5.0, 3.0, History())
    assert level.threshold(History()) == pytest.approx(3 + 0.9)  # the spread of the two is 1
    pid = ConformalPID(alpha=0.1, forecast=lambda _: 10.0)
    pid.calibrate([1.0, 2.0])
    assert pid.threshold(History()) == 2.0  # the guess is part of it
