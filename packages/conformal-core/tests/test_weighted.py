"""Exponential weights against rational arithmetic: on which side they round, what p-values look at, where they live."""

import sys
from fractions import Fraction

import numpy as np
import pytest

from conformal_core import Exponential


def remembering(scores, decay=0.5):
    memory = Exponential(decay)
    memory.extend(np.asarray(scores))
    return memory


def exact_p_value(past, decay, score, u):
    """Weight of larger scores, and u times that of equal ones, the new one's weight of 1 among these."""
    weighed = [(s, Fraction(decay) ** age) for s, age in zip(past, range(len(past), 0, -1), strict=True)]
    larger, equal = sum(w for s, w in weighed if s > score), sum(w for s, w in weighed if s == score)
    return (larger + Fraction(u) * (equal + 1)) / (sum(w for _, w in weighed) + 1)


@pytest.mark.parametrize("n", range(1, 9))
def test_a_level_a_little_too_small_for_the_weights_has_no_threshold(n):
    """All weights together are a fraction of Σ w + 1; where 1 − α is more than it by 10⁻¹⁵ no score is enough."""
    total = sum(Fraction(1, 2**age) for age in range(1, n + 1))
    memory = remembering(np.arange(float(n)))
    share = total / (total + 1)
    assert memory.quantile(1 - share - Fraction(1, 10**15)) == np.inf
    assert memory.quantile(1 - share + Fraction(1, 10**12)) == n - 1


@pytest.mark.parametrize("n", range(1, 9))
def test_rounding_never_lowers_a_p_value(n):
    past = np.arange(float(n)).tolist()
    memory = remembering(past)
    for score in (-1.0, 0.0, n - 1.0, n + 1.0):
        got, exact = Fraction(float(memory.p_values(np.asarray(score)))), exact_p_value(past, 0.5, score, 1)
        assert exact <= got <= exact + Fraction(1, 10**12)


@pytest.mark.parametrize("u", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_smoothed_p_values_are_those_of_exact_weights(lib, u, dtype):
    past, asked = [0.5, 0.25, 0.5, 0.75, 0.0], np.asarray([[-1.0, 0.0, 0.5], [0.75, 0.25, 2.0]], dtype=dtype)
    memory = remembering(past, decay=0.75)
    wanted = [[float(exact_p_value(past, 0.75, s, u)) for s in row] for row in asked.tolist()]
    for draws in (u, lib(np.full(asked.shape, u))):
        got = lib.back(memory.p_values(lib(asked), u=draws))
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, wanted, atol=1e-15, rtol=0)
    with pytest.raises(ValueError, match=r"u must lie in \[0, 1\]"):
        memory.p_values(np.asarray(asked), u=1.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_lowest_number_has_a_p_value(dtype):
    """What lies before it is −∞, which is not a score but a place among them."""
    lowest = np.asarray([-np.finfo(dtype).max], dtype=dtype)
    assert remembering([0.5, 0.25]).p_values(lowest) == 1.0
    assert remembering([-sys.float_info.max, 0.25]).p_values(lowest, u=0.5) > 0.5


def test_p_values_lie_on_the_device_of_the_scores():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    scores = strict.asarray([0.0, 0.5], device=device)
    memory = remembering([0.5, 0.25])
    for u in (None, 0.5):
        got = memory.p_values(scores, u=u)
        assert (got.device, got.dtype) == (device, strict.float64)


def test_scores_of_whole_numbers_are_saved_as_floats():
    memory = Exponential(0.5)
    memory.add(1)
    state = memory.state_dict()
    assert (state["scores"].dtype, state["weights"].dtype) == (np.float64, np.float64)
    assert (state["scores"].tolist(), state["weights"].tolist()) == ([1.0], [1.0])
