import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cpsc_train.experiments.statistics import (
    critical_difference,
    holm,
    mean_ranks,
    paired_difference,
    smallest_difference,
)
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


def test_divisions_are_the_units_and_their_overlap_widens_the_interval():
    """By hand: means 2 and 3 of two divisions, variance 1/2, times 1/2 + 1/4; t of one degree of freedom is 12.706."""
    found = paired_difference([1.0, 3.0, 2.0, 4.0], [0.0] * 4, divisions=[0, 0, 1, 1], overlap=0.25)
    assert found[:3] == pytest.approx((2.5, 2.5 - 12.706 * np.sqrt(3 / 8), 2.5 + 12.706 * np.sqrt(3 / 8)), rel=1e-4)
    plain = stats.ttest_1samp([2.0, 3.0], 0)
    assert paired_difference([2.0, 3.0], [0.0, 0.0], divisions=[0, 1]).p_value == pytest.approx(plain.pvalue)
    same = paired_difference([2.0, 3.0], [0.0, 0.0], divisions=[0, 0], overlap=0.25)  # one division: nothing overlaps
    assert same.p_value == pytest.approx(plain.pvalue)
    with pytest.raises(ValueError, match="divisions must hold as many"):
        paired_difference([1.0, 2.0], [0.0, 0.0], divisions=[0, 1, 2])


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_of_divisions_that_overlap_no_more_than_five_percent_differ_by_chance(spread):
    """Test rows are a fifth: differences of two divisions correlate by .2, and overlap = .2 / .8."""
    rng, overlap = np.random.default_rng(0), 0.25
    wrong = 0
    for _ in range(2000):
        shared, own = rng.normal() * np.sqrt(0.2), rng.normal(size=(5, 1)) * np.sqrt(0.8)
        values = (spread * (shared + own) + rng.normal(size=(5, 3))).ravel()
        labels = np.repeat(np.arange(5), 3).tolist()
        wrong += paired_difference(values, np.zeros(15), divisions=labels, overlap=overlap).p_value < 0.05
    assert wrong / 2000 < 0.065


@pytest.mark.parametrize(("units", "overlap", "level"), [(5, 0.0, 0.05), (10, 0.25, 0.05), (15, 0.0, 0.05 / 29)])
def test_the_smallest_difference_is_found_in_four_of_five_experiments(units, overlap, level):
    shift = smallest_difference(2.0, units, overlap=overlap, level=level)
    rng = np.random.default_rng(1)
    correlation = overlap / (1 + overlap)
    deviation = 2.0 / np.sqrt(1 - correlation)  # so that the sample deviation is 2 on average
    shared = rng.normal(size=(20000, 1)) * np.sqrt(correlation)
    values = shift + deviation * (shared + rng.normal(size=(20000, units)) * np.sqrt(1 - correlation))
    error = values.std(1, ddof=1) * np.sqrt(1 / units + overlap)
    found = np.abs(values.mean(1)) / error > stats.t.ppf(1 - level / 2, units - 1)
    assert found.mean() == pytest.approx(0.8, abs=0.015)


def test_the_smallest_difference_of_published_tables():
    """Cohen (1988), table 2.4.1, as paired: 34 pairs for .5 and 15 for .78 standard deviations, at .05 and .80."""
    assert smallest_difference(1.0, 34) == pytest.approx(0.5, abs=0.01)
    assert smallest_difference(3.0, 15) == pytest.approx(3 * 0.778, abs=0.02)
    assert np.isnan(smallest_difference(1.0, 1))


def test_holm_by_hand():
    """.01 · 4, .02 · 3, .03 · 2, and .5, none smaller than one before it; what is no test is not counted."""
    found = holm([0.03, 0.01, float("nan"), 0.5, 0.02])
    np.testing.assert_allclose(found, [0.06, 0.04, np.nan, 0.5, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_holm_rejects_a_true_null_hypothesis_no_more_often_than_it_says():
    rng = np.random.default_rng(0)
    any_error = [(holm(rng.uniform(size=8)) < 0.05).any() for _ in range(4000)]
    assert np.mean(any_error) < 0.062  # three standard errors above .05


def test_ranks_and_their_critical_difference():
    scores = np.random.default_rng(0).standard_normal((9, 5))
    np.testing.assert_allclose(mean_ranks(scores), stats.rankdata(-scores, axis=1).mean(0))
    # Table 5a of Demšar has q = 2.728 for five methods.
    assert critical_difference(5, 30) == pytest.approx(2.728 * np.sqrt(5 * 6 / (6 * 30)), abs=1e-3)
