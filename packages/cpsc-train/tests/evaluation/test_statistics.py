import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cpsc_train.evaluation.statistics import paired_difference

values = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


@given(values, st.integers(0, 99), st.sampled_from([0.8, 0.95]))
def test_the_interval_is_that_of_a_paired_t_test(first, seed, confidence):
    second = np.random.default_rng(seed).standard_normal(len(first))
    found = paired_difference(first, second, confidence=confidence)
    expected = stats.ttest_rel(first, second).confidence_interval(confidence)
    assert found.mean == pytest.approx(np.mean(np.subtract(first, second)))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_pair_has_no_interval():
    found = paired_difference([3.0], [1.0])
    assert found.mean == 2.0
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1.0, 2.0], 0.9), r"as many values, at least one, got \(1,\) and \(2,\)"),
        (([], [], 0.9), "at least one"),
        (([1.0], [1.0], 1.0), r"confidence must lie in \(0, 1\), got 1.0"),
    ],
)
def test_bad_use(arguments, message):
    first, second, confidence = arguments
    with pytest.raises(ValueError, match=message):
        paired_difference(first, second, confidence=confidence)
