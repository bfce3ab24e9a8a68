"""The order of a stream: its first half is clean, and each condition of the second has an equal part, in order."""

from __future__ import annotations

import numpy as np
import pytest

from cpsc_train.experiments.evidence import Course


@pytest.mark.parametrize("conditions", range(6))
@pytest.mark.parametrize("length", [6, 11, 40])
def test_the_second_half_has_every_condition_in_order(conditions, length):
    rows = np.random.default_rng(0).permutation(length)
    course = Course.drifting(rows, conditions)
    assert (course.condition[: length // 2] == 0).all()
    later = course.condition[length // 2 :]
    assert (np.diff(later) >= 0).all()
    if not conditions:
        assert (later == 0).all()
        return
    counts = np.bincount(later, minlength=conditions + 1)[1:]
    assert counts.sum() == len(later)
    assert counts.max() - counts.min() <= 1


def test_values_are_those_of_the_row_under_its_condition():
    rows = np.random.default_rng(0).permutation(20)
    values = [np.arange(20) + 100 * condition for condition in range(4)]
    course = Course.drifting(rows, 3)
    np.testing.assert_array_equal(course.along(values) % 100, rows)
    np.testing.assert_array_equal(course.along(values) // 100, course.condition)
    by_name = course.each([{"a": one, "b": -one} for one in values])
    np.testing.assert_array_equal(by_name["a"], -by_name["b"])
