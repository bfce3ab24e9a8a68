import math
import warnings
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import reference
from conformal_core import conformal_quantile, prediction_set, quantile_rank, weighted_conformal_quantile

alphas = st.integers(1, 999).map(lambda a: a / 1000) | st.sampled_from([0.1, 0.05, 0.25, 0.5])
finite = st.floats(-1e300, 1e300) | st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 0.5, 1.0])
scores = st.lists(finite, min_size=1, max_size=40)
tied = st.lists(st.sampled_from([0.0, -0.0, 0.25, 0.5]), min_size=1, max_size=40)


def quiet(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*args, **kwargs)


def test_rank_is_exact_for_every_decimal_alpha_and_size():
    for thousandths in range(1, 1000):
        exact = Fraction(thousandths, 1000)
        for n in range(0, 400, 7):
            k = math.ceil((n + 1) * (1 - exact))
            assert quantile_rank(n, alpha=thousandths / 1000) == (k if k <= n else None)


def test_float_arithmetic_would_fail_where_the_rank_does_not():
    """The rank that floats give is wrong for hundreds of pairs; ours is compared with integers on every one of them."""
    wrong = 0
    for percent in range(1, 100):
        for n in range(2000):
            k = -(-(n + 1) * (100 - percent) // 100)
            assert quantile_rank(n, alpha=percent / 100) == (k if k <= n else None)
            wrong += math.ceil((n + 1) * (1 - percent / 100)) != k
    assert wrong == 1159


@pytest.mark.parametrize("alpha", [Decimal("0.18"), Fraction(9, 50), 0.18, np.float64(0.18)])
def test_an_alpha_may_be_written_in_many_ways(alpha):
    assert quantile_rank(149, alpha=alpha) == 123


@given(scores | tied, alphas, st.sampled_from([np.float32, np.float64]))
def test_quantile_is_the_order_statistic(lib, values, alpha, dtype):
    with np.errstate(over="ignore"):
        array = np.asarray(values, dtype=dtype)
    if not np.isfinite(array).all():
        return
    got = lib.back(quiet(conformal_quantile, lib(array), alpha=alpha))
    assert got.shape == ()
    assert got.dtype == dtype
    assert float(got) == reference.quantile([float(x) for x in array], alpha)


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=3, max_side=6), elements=st.floats(-5, 5)),
    st.lists(alphas, min_size=1, max_size=3),
)
def test_leading_axes_and_several_levels_are_each_on_its_own(lib, values, levels):
    got = lib.back(quiet(conformal_quantile, lib(values), alpha=levels))
    assert got.shape == (len(levels), *values.shape[:-1])
    for level, row in zip(levels, got, strict=True):
        for index in np.ndindex(*values.shape[:-1]):
            assert row[index] == reference.quantile(list(values[index]), level)


@given(scores, st.lists(alphas, min_size=2, max_size=4).map(sorted))
def test_thresholds_fall_and_sets_are_nested_as_alpha_grows(values, levels):
    thresholds = quiet(conformal_quantile, np.asarray(values), alpha=levels)
    assert thresholds.tolist() == sorted(thresholds.tolist(), reverse=True)
    sets = [prediction_set(np.asarray(values), float(q)) for q in thresholds]
    for larger, smaller in pairwise(sets):
        assert (smaller <= larger).all()


def test_covers_with_probability_exactly_k_over_n_plus_1():
    """Every position of the new score among the others is equally likely: count those that are covered."""
    for n in (1, 4, 9, 20):
        for alpha in (0.05, 0.1, 0.25, 0.5):
            covered = 0
            for new in range(n + 1):
                others = np.asarray([float(i) for i in range(n + 1) if i != new])
                covered += new <= float(quiet(conformal_quantile, others, alpha=alpha))
            k = reference.rank(n, alpha)
            assert covered == (n + 1 if k is None else k)


def test_too_few_scores_give_infinity_and_say_the_smallest_alpha(lib):
    for n, smallest in ((9, "the smallest usable alpha is 1/10 = 0.1"), (0, "calibrate first")):
        with pytest.warns(UserWarning, match=rf"^{n} calibration scores are too few.*{smallest}$"):
            assert float(lib.back(conformal_quantile(lib(np.arange(float(n))), alpha=0.05))) == math.inf


@pytest.mark.parametrize(
    ("values", "alpha", "kind", "message"),
    [
        ([1.0, math.nan], 0.1, ValueError, "scores must be finite, got nan at index 1"),
        ([math.inf, 1.0], 0.1, ValueError, "scores must be finite, got inf at index 0"),
        ([[1.0, 2.0], [-math.inf, 1.0]], 0.1, ValueError, r"got -inf at index \(1, 0\)"),
        (1.0, 0.1, ValueError, r"scores must have shape \(\.\.\., N\)"),
        ([1.0], 0.0, ValueError, r"alpha must lie in \(0, 1\), got 0.0"),
        ([1.0], 1, ValueError, r"alpha must lie in \(0, 1\), got 1"),
        ([1.0], math.nan, ValueError, "alpha must be finite"),
        ([1.0], "ten", ValueError, "alpha must be a number such as '0.1' or '1/10', got 'ten'"),
        ([1.0], True, TypeError, "alpha must be a real number, or text such as '1/10', got bool"),
    ],
)
def test_bad_input_is_refused(lib, values, alpha, kind, message):
    with pytest.raises(kind, match=message):
        conformal_quantile(lib(np.asarray(values, dtype=np.float64)), alpha=alpha, check=lib.check)


def test_bad_kinds_are_refused(lib):
    with pytest.raises(TypeError, match="scores must hold real floating-point numbers"):
        conformal_quantile(lib(np.asarray([True, False])), alpha=0.1)
    with pytest.raises(TypeError, match="scores must be an array"):
        conformal_quantile({1.0, 2.0}, alpha=0.1)
    for n, kind in ((-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(kind, match="n must be"):
            quantile_rank(n, alpha=0.1)


def test_checks_can_be_left_out():
    assert np.isnan(conformal_quantile(np.asarray([np.nan] * 9), alpha=0.1, check=False))


whole_weights = st.lists(
    st.tuples(st.integers(-5, 5).map(float), st.integers(0, 4).map(float)), min_size=1, max_size=15
)


@given(whole_weights, st.lists(st.integers(0, 6).map(float), min_size=1, max_size=4), alphas)
def test_weighted_quantile_is_exact_for_whole_weights(lib, pairs, tests, alpha):
    values, weights = map(list, zip(*pairs, strict=True))
    got = lib.back(weighted_conformal_quantile(lib(values), lib(weights), lib(tests), alpha=alpha))
    assert got.tolist() == [reference.weighted_quantile(values, weights, w, alpha) for w in tests]


@given(scores, alphas)
def test_equal_weights_are_the_ordinary_quantile(values, alpha):
    ones = np.ones(len(values))
    got = weighted_conformal_quantile(np.asarray(values), ones, 1.0, alpha=alpha)
    assert float(got) == reference.quantile(values, alpha)


def test_weighted_quantiles_of_rows_are_each_on_its_own(lib):
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(3, 2, 8)), rng.integers(0, 3, (3, 2, 8)).astype(float)
    tests = rng.integers(0, 3, (3, 2)).astype(float)
    got = lib.back(weighted_conformal_quantile(lib(values), lib(weights), lib(tests), alpha=0.3))
    for i in np.ndindex(3, 2):
        assert got[i] == reference.weighted_quantile(list(values[i]), list(weights[i]), tests[i], 0.3)


@pytest.mark.parametrize(
    ("weights", "test", "message"),
    [
        ([1.0, -1.0], 1.0, "weights must be at least 0, got -1.0"),
        ([1.0, math.nan], 1.0, "weights must be finite"),
        ([1.0, 1.0], -0.5, "test_weights must be at least 0, got -0.5"),
        ([1.0, 1.0, 1.0], 1.0, r"weights must broadcast to shape \(2,\)"),
    ],
)
def test_bad_weights_are_refused(weights, test, message):
    with pytest.raises(ValueError, match=message):
        weighted_conformal_quantile(np.asarray([1.0, 2.0]), np.asarray(weights), test, alpha=0.1)


def test_a_scalar_has_no_weighted_quantile():
    with pytest.raises(ValueError, match=r"scores must have shape \(\.\.\., N\), got a scalar"):
        weighted_conformal_quantile(np.asarray(1.0), np.asarray(1.0), 1.0, alpha=0.1)


def test_order_statistics_of_a_long_row_in_any_order():
    scores = np.random.default_rng(0).permutation(1000).astype(float)
    for alpha in (0.9, 0.5, 0.1, 0.001):
        assert float(conformal_quantile(scores, alpha=alpha)) == math.ceil(1001 * (1 - reference.decimal(alpha))) - 1


@given(
    st.lists(st.tuples(st.integers(0, 5).map(float), st.floats(0, 2) | st.sampled_from([0.1, 0.3])), min_size=1),
    st.sampled_from([0.1, 0.5, 1 / 3]),
    alphas,
)
def test_rounding_of_weights_never_lowers_a_threshold(pairs, test, alpha):
    values, weights = map(np.asarray, zip(*pairs, strict=True))
    got = weighted_conformal_quantile(values, weights, test, alpha=alpha)
    assert float(got) >= reference.weighted_quantile(values.tolist(), weights.tolist(), test, alpha)


def test_a_tie_that_rounding_would_hide_goes_to_the_larger_threshold():
    """All weights but that of the test row: half of the total, less 2⁻⁵⁵, which a sum of doubles cannot hold."""
    weights = np.asarray([2.0**-i for i in range(1, 55)])
    assert weighted_conformal_quantile(np.arange(54.0), weights, 1.0, alpha=0.5) == math.inf


@pytest.mark.parametrize("weight", [0.1, 1 / 3, 1e-300, 1e300, 7.0])
def test_equal_weights_of_any_size_are_the_ordinary_quantile(lib, weight):
    values = np.random.default_rng(0).random(9)
    for alpha in (0.1, 0.2, 0.3, 0.5):
        got = weighted_conformal_quantile(lib(values), lib(np.full(9, weight)), weight, alpha=alpha)
        assert float(got) == reference.quantile(values.tolist(), alpha)
