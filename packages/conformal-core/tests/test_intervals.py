import numpy as np
import pytest

from conformal_core import (
    AbsoluteResidual,
    Coverage,
    Interval,
    SplitRegressor,
    coverage,
    interval_metrics,
    interval_score,
)

RNG = np.random.default_rng(0)


def test_coverage_is_that_of_the_same_hits_as_sets():
    intervals, targets = np.sort(RNG.normal(size=(300, 2)), axis=1), RNG.normal(size=300)
    hits = (intervals[:, 0] <= targets) & (targets <= intervals[:, 1])
    result = interval_metrics(intervals, targets, alpha=0.1, confidence=0.8)
    expected = coverage(hits[:, None], np.zeros(300, dtype=int), confidence=0.8)
    assert Coverage(*(result[name] for name in Coverage._fields)) == expected


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
    assert interval_metrics(intervals, np.asarray([5.0, 0.5]), alpha=0.1)["coverage"] == 0.5
    assert interval_score(intervals, np.asarray([5.0, 0.5]), alpha=0.5).tolist() == [np.inf, -1 + 4 * 0.5]


def test_split_intervals_have_the_promised_coverage():
    predictions = RNG.normal(size=4000)
    targets = predictions + RNG.normal(size=4000)
    model = SplitRegressor(AbsoluteResidual(), alpha=0.2)
    model.calibrate(predictions[:2000], targets[:2000])
    result = interval_metrics(model.predict(predictions[2000:]), targets[2000:], alpha=0.2)
    assert abs(result["coverage"] - 0.8) < 0.04


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


def by_hand(intervals, targets):
    score = interval_score(intervals, targets, alpha=0.1)
    hits = (intervals[:, 0] <= targets) & (targets <= intervals[:, 1])
    return {
        **coverage(hits[:, None], np.zeros(len(hits), dtype=int))._asdict(),
        "width": np.maximum(intervals[:, 1] - intervals[:, 0], 0).mean(),
        "score": score.mean(),
    }


@pytest.mark.parametrize("endless", [False, True])
def test_means_of_all_rows_of_groups_and_of_windows_are_those_of_their_rows(endless):
    intervals, targets = RNG.normal(size=(40, 2)), RNG.normal(size=40)
    intervals[7] = [-np.inf, np.inf] if endless else [0, 1]
    for name, value in interval_metrics(intervals, targets, alpha=0.1).items():
        assert value == pytest.approx(by_hand(intervals, targets)[name])
    groups = np.asarray(["south", "north"])[RNG.integers(0, 2, 40)]
    seen = interval_metrics(intervals, targets, alpha=0.1, groups=groups)
    for place, group in enumerate(seen.pop("group")):
        own = by_hand(intervals[groups == group], targets[groups == group])
        assert {name: values[place] for name, values in seen.items()} == pytest.approx(own)
    for window in (1, 7, 100):
        seen = interval_metrics(intervals, targets, alpha=0.1, window=window)
        for row in range(40):
            own = slice(max(0, row + 1 - window), row + 1)
            expected = by_hand(intervals[own], targets[own])
            assert {name: values[row] for name, values in seen.items()} == pytest.approx(expected, abs=1e-12)


def test_no_rows_have_no_metrics():
    none, targets = np.zeros((0, 2)), np.zeros(0)
    assert np.isnan(interval_metrics(none, targets, alpha=0.1)["coverage"])
    assert interval_metrics(none, targets, alpha=0.1, groups=[])["rows"].tolist() == []
    assert interval_metrics(none, targets, alpha=0.1, window=3)["width"].tolist() == []


def test_groups_and_windows_are_checked():
    three = np.zeros((3, 2)), np.zeros(3)
    with pytest.raises(ValueError, match="groups must have one entry for each of the 3 rows, got 2"):
        interval_metrics(*three, alpha=0.1, groups=[1, 2])
    assert interval_metrics(*three, alpha=0.1, groups=["b", 2, "b"])["group"].tolist() == [2, "b"]
    with pytest.raises(TypeError, match="groups must be integers or strings, got float"):
        interval_metrics(*three, alpha=0.1, groups=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        interval_metrics(*three, alpha=0.1, window=0)
    with pytest.raises(TypeError, match="groups and window cannot both be given"):
        interval_metrics(*three, alpha=0.1, groups=[1, 1, 1], window=2)


@pytest.mark.parametrize(("target", "inside"), [(2.0, True), (5.0, True), (1.999, False), (np.float32(5.5), False)])
def test_an_interval_can_be_asked(target, inside):
    interval = Interval(*np.asarray([2.0, 5.0]))
    assert (target in interval) is inside
    low, high = interval
    assert (low, high, interval.width) == (2.0, 5.0, 3.0)


def test_an_empty_interval_and_an_infinite_one():
    assert 0.0 not in Interval(1.0, -1.0)
    assert Interval(1.0, -1.0).width == 0.0
    assert Interval(-np.inf, np.inf).width == np.inf
