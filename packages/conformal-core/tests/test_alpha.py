"""A level in any form has the rank of the number that it is written as."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from conformal_core import LAC, AbsoluteResidual, SplitClassifier, SplitRegressor, conformal_quantile, quantile_rank

TENTH = [
    "1/10",
    "0.1",
    ".1",
    "1e-1",
    Fraction(1, 10),
    Decimal("0.1"),
    np.float64(0.1),
    np.float32(0.1),
    np.asarray(0.1),
]
TENTH += [1 - 0.9, 0.3 - 0.2, np.float64(1) - 0.9, np.float32(1) - np.float32(0.9)]


@pytest.mark.parametrize("alpha", TENTH, ids=repr)
def test_a_tenth_in_any_form_has_the_rank_of_a_tenth(alpha):
    assert quantile_rank(9, alpha=alpha) == 9
    assert quantile_rank(19, alpha=alpha) == 18
    assert conformal_quantile(np.arange(9.0), alpha=alpha) == 8.0
    predictor = SplitRegressor(AbsoluteResidual(), alpha=alpha)
    predictor.calibrate(np.zeros(9), np.arange(9.0))
    assert predictor.qhat == 8.0


def test_the_rounding_of_arithmetic_is_not_part_of_a_level():
    assert quantile_rank(2, alpha=1 / 3) == 2
    assert quantile_rank(999, alpha=1 - 0.999) == 999
    assert quantile_rank(10**15, alpha=0.123456789012345) == 10**15 + 1 - 123456789012345  # 15 digits are as written
    third_and_a_bit = 0.3333333333333337  # further from 1/3 than rounding
    assert quantile_rank(10**16, alpha=third_and_a_bit) == 10**16 + 1 - 3333333333333337
    assert quantile_rank(10**17, alpha=1e-17) is not None


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [3, 7, 9])
def test_rounding_is_that_of_the_type_of_a_level(kind, n):
    """1/n of any precision, most of which print as a little less, leaves one of n rows uncovered."""
    assert quantile_rank(n - 1, alpha=kind(1) / kind(n)) == n - 1
    assert quantile_rank(n - 1, alpha=np.asarray(1 / n, dtype=kind)) == n - 1


def test_digits_that_a_type_holds_are_as_written():
    assert quantile_rank(2, alpha=np.float16(0.333)) is None
    assert quantile_rank(2, alpha=np.float32(0.333333)) is None
    assert quantile_rank(2, alpha=0.333333333333333) is None  # 17 characters, the most that are as written
    assert quantile_rank(2, alpha=0.3333333333333333) == 2


def test_decimals_of_any_length_are_as_written():
    assert quantile_rank(2, alpha=Decimal("0.3333333333333333")) is None
    assert quantile_rank(2, alpha=Decimal("0.3333333333333334")) == 2


@pytest.mark.parametrize("kind", [float, np.float32])
def test_a_level_near_zero_stays_above_it(kind):
    assert quantile_rank(10, alpha=kind(1.2345678901234567e-17)) is None


@pytest.mark.parametrize(
    ("alpha", "kind", "message"),
    [
        ("ten", ValueError, "alpha must be a number such as '0.1' or '1/10', got 'ten'"),
        ("1/0", ValueError, "alpha must be a number such as"),
        ("1" * 5000, ValueError, "alpha must be a number such as"),
        ("1.5", ValueError, r"alpha must lie in \(0, 1\), got 1\.5"),
        (1j, TypeError, "alpha must be a real number, or text such as '1/10', got complex"),
        (None, TypeError, "exactly one of alpha and confidence must be given, got neither: alpha is 1 - confidence"),
        ([], ValueError, "alpha must hold at least one level, got none"),
        ([0.1, 1.5], ValueError, r"alpha must lie in \(0, 1\), got 1\.5"),
    ],
)
def test_a_level_that_is_none_is_refused(alpha, kind, message):
    with pytest.raises(kind, match=message):
        SplitClassifier(LAC(), alpha=alpha)
