"""``benjamini_hochberg`` against scipy and its definition."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformal_core import benjamini_hochberg


@given(st.lists(st.integers(1, 60), max_size=40), st.sampled_from(["0.05", "0.1", "1/3", "0.5"]))
def test_selected_are_the_p_values_up_to_the_last_that_passes(ranks, alpha):
    """p-values of 59 calibration rows, k/60, compared in exact arithmetic: many lie exactly on a limit."""
    exact = sorted(Fraction(rank, 60) for rank in ranks)
    passes = [p for k, p in enumerate(exact, 1) if p <= Fraction(alpha) * k / len(exact)]
    limit = max(passes, default=Fraction(-1))
    for dtype in (np.float64, np.float32):
        selected = benjamini_hochberg((np.asarray(ranks) / 60).astype(dtype), alpha=alpha)
        assert selected.tolist() == [Fraction(rank, 60) <= limit for rank in ranks]


def test_it_selects_what_scipy_selects():
    control = pytest.importorskip("scipy.stats").false_discovery_control
    for seed in range(20):
        p_values = np.random.default_rng(seed).uniform(size=200) ** 2
        np.testing.assert_array_equal(benjamini_hochberg(p_values, alpha=0.2), control(p_values) <= 0.2)


def test_any_shape_and_library(lib):
    p_values = np.asarray([[0.01, 0.9], [0.02, 0.5]])
    selected = benjamini_hochberg(lib(p_values), alpha=0.1)
    assert type(selected) is type(lib(p_values))
    assert lib.back(selected).tolist() == [[True, False], [True, False]]
    assert benjamini_hochberg(lib(np.zeros((0, 2))), alpha=0.1).shape == (0, 2)
    assert benjamini_hochberg(0.05, alpha=0.1).tolist() is True


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: benjamini_hochberg([0.5, 1.5], alpha=0.1), ValueError, r"p_values must lie in \[0, 1\], got 1.5"),
        (lambda: benjamini_hochberg([math.nan], alpha=0.1), ValueError, r"p_values must lie in \[0, 1\], got nan"),
        (lambda: benjamini_hochberg([0.5], alpha=1), ValueError, r"alpha must lie in \(0, 1\), got 1"),
        (lambda: benjamini_hochberg(["a"], alpha=0.1), TypeError, "p_values must hold real"),
    ],
)
def test_bad_use_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
