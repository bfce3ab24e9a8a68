from __future__ import annotations

import numpy as np
import pytest

from cpsc_train.evaluation.shapley import shapley


def test_shapley_values_add_up_and_are_symmetric():
    rng = np.random.default_rng(0)
    worth = {}

    def value(coalition):
        return worth.setdefault(coalition, rng.standard_normal(3))

    found = shapley("abcd", value)
    np.testing.assert_allclose(sum(found.values()), worth[frozenset("abcd")])
    same = shapley("abc", lambda coalition: float(len(coalition) ** 2))
    assert list(same.values()) == pytest.approx([3.0, 3.0, 3.0])
    dummy = shapley("ab", lambda coalition: 5.0 if "a" in coalition else 0.0)
    assert dummy == {"a": 5.0, "b": 0.0}
