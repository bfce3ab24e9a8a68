"""Checks that the packages share: what passes, and what each refuses with which sentence."""

from typing import Literal

import numpy as np
import pytest

from conformal_core import checks
from conftest import Library


def test_checks_return_what_passes() -> None:
    assert checks.check_count("k", np.int64(3)) == 3
    assert checks.check_finite_number("x", 2) == 2.0
    assert checks.check_nonnegative("x", 0) == 0.0
    assert checks.check_interval("x", 1, "(0, 1]") == 1.0
    assert checks.check_choice("x", "a", Literal["a", "b"]) == "a"
    checks.check_callable("x", len)
    checks.check_shape("x", np.zeros((2, 3)), ("N", 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: checks.check_count("k", True), TypeError, "k must be an integer, got bool"),
        (lambda: checks.check_count("k", 0), ValueError, "k must be at least 1, got 0"),
        (lambda: checks.check_number("x", "1"), TypeError, "x must be a number, got str"),
        (lambda: checks.check_finite_number("x", np.nan), ValueError, "x must be finite, got nan"),
        (lambda: checks.check_nonnegative("x", -1), ValueError, "x must be finite and at least 0, got -1"),
        (lambda: checks.check_nonnegative("x", np.inf), ValueError, "x must be finite and at least 0, got inf"),
        (lambda: checks.check_interval("x", 0, "(0, 1]"), ValueError, "x must lie in (0, 1], got 0"),
        (lambda: checks.check_interval("x", 1, "[0, 1)"), ValueError, "x must lie in [0, 1), got 1"),
        (lambda: checks.check_interval("x", np.nan, "[0, 1]"), ValueError, "x must lie in [0, 1], got nan"),
        (lambda: checks.check_choice("x", "c", Literal["a", "b"]), ValueError, "x must be one of 'a', 'b', got 'c'"),
        (lambda: checks.check_callable("x", 1), TypeError, "x must be callable, got int"),
        (lambda: checks.check_floating("x", [1.0]), TypeError, "x must be an array (numpy, torch or any"),
        (lambda: checks.check_floating("x", np.zeros(2, int)), TypeError, "x must be of a floating dtype, got int64"),
        (lambda: checks.check_shape("x", np.zeros(2), ("B", 3)), ValueError, "x must have shape (B, 3), got (2,)"),
        (lambda: checks.check_shape("x", np.zeros((2, 1)), (2,)), ValueError, "x must have shape (2,), got (2, 1)"),
    ],
)
def test_checks_name_the_argument_the_rule_and_the_value(call, error, message) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_labels(lib: Library) -> None:
    labels = checks.check_labels("labels", lib(np.asarray([2, 0], dtype=np.int32)), 2, 3, check=lib.check)
    np.testing.assert_array_equal(lib.back(labels), [2, 0])
    assert str(labels.dtype).endswith("int64")
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1, got 2 at row 0"):
        checks.check_labels("labels", labels, 2, 2, check=True)
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\), got \(2,\)"):
        checks.check_labels("labels", labels, 3, 3, check=None)
    with pytest.raises(TypeError, match="labels must be of an integer dtype"):
        checks.check_labels("labels", lib([0.0, 1.0]), 2, 2, check=None)
