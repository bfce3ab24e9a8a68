"""Weighted p-values against exact arithmetic, weighted quantiles and unweighted p-values."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformal_core import p_values, weighted_conformal_quantile, weighted_p_values

pairs = st.lists(st.tuples(st.integers(-6, 6).map(lambda i: i / 4), st.integers(0, 5)), max_size=12)
tests = st.lists(st.tuples(st.integers(-8, 8).map(lambda i: i / 4), st.integers(0, 5)), min_size=1, max_size=6)


def exact(known, weights, score, own, u=1):
    larger = sum(Fraction(w) for s, w in zip(known, weights, strict=True) if s > score)
    equal = sum(Fraction(w) for s, w in zip(known, weights, strict=True) if s == score)
    total = sum(map(Fraction, weights)) + Fraction(own)
    return (larger + Fraction(u) * (equal + Fraction(own))) / total if total else Fraction(1)


def columns(rows):
    return (np.asarray([row[i] for row in rows], dtype=float) for i in (0, 1))


@given(pairs, tests, st.sampled_from([0.0, 0.25, 1.0]))
def test_whole_weights_give_exact_p_values(lib, known, asked, u):
    (scores, weights), (new, own) = columns(known), columns(asked)
    got = lib.back(weighted_p_values(lib(scores), lib(weights), lib(new), lib(own)))
    assert got.tolist() == [float(exact(scores, weights, s, w)) for s, w in zip(new, own, strict=True)]
    smoothed = lib.back(weighted_p_values(lib(scores), lib(weights), lib(new), lib(own), u=u))
    wanted = [float(exact(scores, weights, s, w, u)) for s, w in zip(new, own, strict=True)]
    np.testing.assert_allclose(smoothed, wanted, rtol=1e-15)


@given(pairs, tests, st.sampled_from(["0.1", "0.25", "1/3", "0.5"]), st.sampled_from([1.0, 0.1, 1e200, 1e-200]))
def test_a_p_value_exceeds_alpha_where_the_score_is_at_most_the_quantile(known, asked, alpha, unit):
    (scores, weights), (new, own) = columns(known), columns(asked)
    own[own + weights.sum() == 0] = 1.0  # without weight there is no probability
    qhat = weighted_conformal_quantile(scores, weights * unit, own * unit, alpha=alpha)
    p = weighted_p_values(scores, weights * unit, new, own * unit)
    np.testing.assert_array_equal(p > float(Fraction(alpha)), new <= qhat)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_estimated_ratios_agree_with_the_quantile(dtype):
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores, weights = rng.integers(0, 30, 40) / 8, rng.gamma(0.5, size=40)
        new, own = (rng.integers(0, 32, 20) / 8).astype(dtype), rng.gamma(0.5, size=20)
        p = weighted_p_values(scores, weights, new, own)
        for s, w, value in zip(new.tolist(), own.tolist(), p.tolist(), strict=True):
            assert -4e-16 < Fraction(value) - exact(scores, weights.tolist(), s, w) < 1e-12
        for alpha in (0.05, 0.1, 0.3):
            qhat = weighted_conformal_quantile(scores, weights, own, alpha=alpha)
            np.testing.assert_array_equal(p > alpha, new <= qhat)


def test_equal_weights_of_any_size_are_no_weights(lib):
    rng = np.random.default_rng(1)
    scores, new, u = rng.integers(0, 9, 30) / 8, rng.integers(0, 9, (7, 3)) / 8, rng.random((7, 3))
    for weight in (1.0, 0.3, 1e-3, 1e300):
        given = lib(scores), lib(np.full(30, weight)), lib(new), lib(np.full((7, 1), weight))
        np.testing.assert_array_equal(lib.back(weighted_p_values(*given)), p_values(scores, new))
        np.testing.assert_allclose(
            lib.back(weighted_p_values(*given, u=lib(u))), p_values(scores, new, u=u), rtol=1e-15
        )


def test_no_rows_or_no_weight_gives_one():
    assert weighted_p_values(np.zeros(0), np.zeros(0), np.asarray([1.0]), 2.0).tolist() == [1.0]
    assert weighted_p_values(np.zeros(2), np.zeros(2), np.asarray(1.0), 0.0, u=0.5) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 2)), 1.0, np.zeros(2), 1.0), r"calibration_scores must have shape \(N,\), got \(2, 2\)"),
        ((np.zeros(2), -1.0, np.zeros(2), 1.0), r"weights must be at least 0, got -1\.0"),
        ((np.zeros(2), np.ones(3), np.zeros(2), 1.0), r"weights must broadcast to shape \(2,\), got \(3,\)"),
        (
            (np.zeros(2), 1.0, np.zeros((2, 3)), np.ones(2)),
            r"test_weights must broadcast to shape \(2, 3\), got \(2,\)",
        ),
        ((np.asarray([np.nan]), 1.0, np.zeros(2), 1.0), "calibration_scores must be finite"),
        ((np.zeros(2), 1.0, np.asarray([np.inf]), 1.0), "scores must be finite"),
    ],
)
def test_what_has_no_weighted_p_value_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        weighted_p_values(*arguments)
