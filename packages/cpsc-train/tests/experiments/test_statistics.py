import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cpsc_train.experiments.statistics import critical_difference, holm, mean_ranks, paired_difference
from cpsc_train.experiments.table import mean_sd

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


def test_p_values_of_no_spread_and_of_one_pair():
    assert paired_difference([1.0, 2.0], [1.0, 2.0]) == (0.0, 0.0, 0.0, 1.0)
    assert paired_difference([3.0, 4.0], [1.0, 2.0]) == (2.0, 2.0, 2.0, 0.0)
    assert np.isnan(paired_difference([3.0], [1.0])[1:]).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.99))
def test_holm_rejects_what_stepping_down_rejects(p_values, alpha):
    """From the smallest on, reject while p ≤ alpha over the number of those left; none after the first that stands."""
    rejected = np.zeros(len(p_values), dtype=bool)
    for tried, place in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[place] * (len(p_values) - tried) > alpha:
            break
        rejected[place] = True
    np.testing.assert_array_equal(holm(p_values) <= alpha, rejected)


def test_holm_never_orders_tests_anew_and_leaves_out_what_is_no_test():
    assert holm([0.04, 0.03, 0.01]).tolist() == pytest.approx([0.06, 0.06, 0.03])
    assert holm([0.9, 0.6]).tolist() == [1.0, 1.0]
    np.testing.assert_allclose(holm([np.nan, 0.02, 0.03]), [np.nan, 0.04, 0.04])


def test_mean_ranks_and_the_difference_that_counts():
    assert mean_ranks(np.array([[3.0, 1.0, 1.0], [3.0, 1.0, 2.0]])).tolist() == [1.0, 2.75, 2.25]
    # Demšar (2006), table 5: q of .05 is 1.960 for two classifiers and 2.569 for four, of .10 it is 2.291 for four.
    for methods, alpha, q in ((2, 0.05, 1.960), (4, 0.05, 2.569), (4, 0.10, 2.291)):
        expected = q * np.sqrt(methods * (methods + 1) / (6 * 20))
        assert critical_difference(methods, 20, alpha=alpha) == pytest.approx(expected, rel=3e-4)


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


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_deviation_of_a_table_is_that_of_a_sample(count):
    values = np.random.default_rng(count).uniform(0, 100, count)
    assert mean_sd(values) == f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"
