"""Units of the score, in which levels move the threshold: given, or learned from calibration rows."""

import numpy as np
import pytest

from conformal_core import (
    LAC,
    SAOCP,
    AbsoluteResidual,
    AsymmetricRegressor,
    ConformalPID,
    DecayingStep,
    Horizons,
    Mondrian,
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


def test_calibrating_again_starts_anew():
    for make in UNITS.values():
        level, fresh = make(), make()
        level.calibrate([0.1, 0.5, 0.9])
        level.update(0.4, level.threshold())
        level.calibrate([1.0, 100.0])
        fresh.calibrate([1.0, 100.0])
        np.testing.assert_equal(level.state_dict(), fresh.state_dict())
        level.calibrate([])
        np.testing.assert_equal(level.state_dict(), make().state_dict())


def test_what_calibration_teaches():
    """Of 1..19 the quantile at .1 is the 18th, 17 above the smallest; the largest is 19."""
    scores = [float(i) for i in range(1, 20)]
    decaying, pid, saocp = (make() for make in UNITS.values())
    for level in (decaying, pid, saocp):
        level.calibrate(scores)
    assert decaying.threshold() == pid.threshold() == 18.0
    assert saocp.threshold() == 19.0
    decaying.update(50.0, 18.0)
    pid.update(50.0, 18.0)
    assert decaying.threshold() == pytest.approx(18 + 17 * 0.9)
    assert pid.threshold() == pytest.approx(18 + 0.05 * 17 * 0.9)


def test_what_was_given_stays():
    level = DecayingStep(alpha=0.1, start=3.0)
    level.calibrate([1.0, 2.0])
    assert level.threshold() == 3.0
    level.update(5.0, 3.0)
    assert level.threshold() == pytest.approx(3 + 0.9)  # the spread of the two is 1
    pid = ConformalPID(alpha=0.1, forecast=lambda _: 10.0)
    pid.calibrate([1.0, 2.0])
    assert pid.threshold() == 2.0  # the guess is part of it


@pytest.mark.parametrize("level", UNITS)
@pytest.mark.parametrize("bias", [0.0, 1000.0, -1000.0])
def test_signed_scores_of_either_side_are_covered(level, bias):
    """Errors far below the prediction have negative scores only; SAOCP started at their opposite."""
    targets = np.random.default_rng(1).normal(size=800) + bias
    hits, thresholds = [], []
    predictor = AsymmetricRegressor(
        *(OnlineRegressor(AbsoluteResidual(side=side), level=UNITS[level]()) for side in ("lower", "upper"))
    )
    predictor.calibrate(np.zeros(200), targets[:200])
    for target in targets[200:]:
        low, high = predictor.predict(0.0)
        hits.append((low <= target, target <= high))
        thresholds.append((-low, high))
        predictor.update(0.0, target)
    np.testing.assert_allclose(np.mean(hits, axis=0), 0.9, atol=0.04)
    assert (np.sign(np.median(thresholds, axis=0)) == (1, 1) if not bias else np.sign((-bias, bias))).all()


@pytest.mark.parametrize("level", UNITS)
def test_each_horizon_and_group_learns_its_unit(level):
    rng, scales = np.random.default_rng(2), np.asarray([1.0, 30.0, 900.0])
    errors = rng.normal(size=(300, 3)) * scales
    horizons = Horizons(OnlineRegressor(AbsoluteResidual(), level=UNITS[level]()), 3)
    horizons.calibrate(np.zeros((300, 3)), errors)
    groups = Mondrian(OnlineRegressor(AbsoluteResidual(), level=UNITS[level]()))
    groups.calibrate(np.zeros(900), errors.ravel(), groups=[0, 1, 2] * 300)
    np.testing.assert_array_equal(horizons.qhat, groups.qhat)
    assert (np.abs(horizons.qhat / scales / horizons.qhat[0] - 1) < 0.3).all()
    with pytest.raises(ValueError, match=r"(start|scale|rate) of \w+ must be given, or learned by calibrate\(\)"):
        groups.predict(0.0, groups="new")
    assert list(groups.predictors) == [0, 1, 2]


def test_saocp_starts_at_the_largest_score():
    for scores, length in (([-5.0, -2.0], 5.0), ([-3.0, 4.0], 7.0), ([1.0, 4.0], 4.0)):
        level = SAOCP(alpha=0.1, lifetime=1)
        level.calibrate(scores)
        assert float(level.threshold()) == max(scores)
        level.update(max(scores), level.threshold())
        assert level.state_dict()["length"] == length
