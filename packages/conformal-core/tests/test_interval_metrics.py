import numpy as np
import pytest

from conformal_core import AbsoluteResidual, SplitRegressor, coverage, interval_coverage, interval_score

RNG = np.random.default_rng(0)


def test_coverage_is_that_of_the_same_hits_as_sets():
    intervals, targets = np.sort(RNG.normal(size=(300, 2)), axis=1), RNG.normal(size=300)
    hits = (intervals[:, 0] <= targets) & (targets <= intervals[:, 1])
    expected = coverage(hits[:, None], np.zeros(300, dtype=int))
    assert interval_coverage(intervals, targets) == expected


def test_score_is_that_of_a_loop():
    intervals, targets = RNG.normal(size=(50, 2)), RNG.normal(size=50)
    expected = []
    for (low, high), y in zip(intervals, targets, strict=True):
        expected.append(high - low + (20 * (low - y) if y < low else 0) + (20 * (y - high) if y > high else 0))
        if y < low and y > high:  # an empty interval: the farther end counts
            expected[-1] = high - low + 20 * max(low - y, y - high)
    np.testing.assert_allclose(interval_score(intervals, targets, alpha=0.1), expected)


def test_infinite_and_empty_intervals():
    intervals = np.asarray([[-np.inf, np.inf], [1.0, 0.0]])
    assert interval_coverage(intervals, np.asarray([5.0, 0.5])).coverage == 0.5
    assert interval_score(intervals, np.asarray([5.0, 0.5]), alpha=0.5).tolist() == [np.inf, -1 + 4 * 0.5]


def test_split_intervals_have_the_promised_coverage():
    predictions = RNG.normal(size=4000)
    targets = predictions + RNG.normal(size=4000)
    model = SplitRegressor(AbsoluteResidual(), alpha=0.2)
    model.calibrate(predictions[:2000], targets[:2000])
    seen = interval_coverage(model.predict(predictions[2000:]), targets[2000:])
    assert abs(seen.coverage - 0.8) < 0.04


@pytest.mark.parametrize(
    ("intervals", "targets", "message"),
    [
        (np.zeros((3, 3)), np.zeros(3), "intervals"),
        (np.zeros((3, 2)), np.zeros(2), "targets"),
        (np.full((1, 2), np.nan), np.zeros(1), "intervals must hold no NaN"),
        (np.zeros((1, 2)), np.full(1, np.inf), "targets must be finite"),
    ],
)
def test_bad_use(intervals, targets, message):
    with pytest.raises(ValueError, match=message):
        interval_score(intervals, targets, alpha=0.1)
