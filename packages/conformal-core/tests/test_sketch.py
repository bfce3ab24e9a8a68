"""A sketch against the exact order statistics: never below, and within its own bound above."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformal_core import LAC, History, OnlineClassifier, Sketch, p_values

scores = st.lists(st.floats(-10, 10) | st.sampled_from([0.0, -0.0, 1.0]), max_size=120)
sizes = st.sampled_from([2, 4, 8, 10])
levels = st.integers(-2, 22).map(lambda i: Fraction(i, 20))


def sketch_of(size, parts):
    sketch = Sketch(size)
    sketch.extend(np.asarray(parts, dtype=np.float64))
    return sketch


def assert_bounds(sketch, seen, alpha):
    history = History()
    history.extend(np.asarray(seen, dtype=np.float64))
    exact, got = history.quantile(alpha), sketch.quantile(alpha)
    assert len(sketch) == len(seen)
    assert got >= exact
    if math.isfinite(exact):
        k = math.ceil((len(seen) + 1) * (1 - alpha))
        assert sum(s < got for s in seen) <= k - 1 + sketch.rank_error
        assert got in seen
    else:
        assert got == exact


@given(seen=scores, size=sizes, alpha=levels)
def test_a_threshold_is_never_below_the_exact_one_and_within_the_bound_above(seen, size, alpha):
    sketch = sketch_of(size, seen)
    assert_bounds(sketch, seen, alpha)
    if len(seen) < 2 * size:
        assert sketch.rank_error == 0
    elif len(seen):
        assert sketch.rank_error <= len(seen) / (2 * size) * math.log2(len(seen) / size)


@given(data=st.data(), size=sizes, alpha=levels)
def test_merged_in_any_order_it_keeps_its_bound(data, size, alpha):
    parts = data.draw(st.lists(scores, min_size=1, max_size=6))
    sketches = [sketch_of(size, part) for part in parts]
    while len(sketches) > 1:
        other = sketches.pop(data.draw(st.integers(1, len(sketches) - 1)))
        before = other.state_dict()
        sketches[data.draw(st.integers(0, len(sketches) - 1))].merge(other)
        np.testing.assert_equal(other.state_dict(), before)
    assert_bounds(sketches[0], [s for part in parts for s in part], alpha)


@given(seen=scores, asked=st.lists(st.floats(-11, 11), min_size=1, max_size=5), size=sizes)
@pytest.mark.parametrize("u", [None, 0.0, 0.25, 1.0])
def test_p_values_are_never_below_the_exact_ones_and_within_the_bound_above(u, seen, asked, size):
    sketch, at = sketch_of(size, seen), np.asarray(asked)
    exact, got = p_values(np.asarray(seen, dtype=np.float64), at, u=u), sketch.p_values(at, u=u)
    assert (got >= exact - 1e-12).all()
    assert (got <= exact + sketch.rank_error / (len(seen) + 1) + 1e-12).all()


@given(seen=scores, later=scores, size=sizes)
def test_saved_and_loaded_it_goes_on_bit_for_bit(seen, later, size):
    sketch, fresh = sketch_of(size, seen), Sketch(size)
    fresh.load_state_dict(sketch.state_dict())
    for one in (sketch, fresh):
        one.extend(np.asarray(later, dtype=np.float64))
    np.testing.assert_equal(fresh.state_dict(), sketch.state_dict())


def test_one_by_one_or_at_once_is_the_same(lib):
    values = np.random.default_rng(0).normal(size=75).astype(np.float32)
    one, all_at_once = Sketch(8), Sketch(8)
    for value in values.tolist():
        one.add(value)
    all_at_once.extend(lib(values))
    np.testing.assert_equal(one.state_dict(), all_at_once.state_dict())


def test_it_is_a_memory_of_online_predictors():
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(4), 500), rng.integers(0, 4, 500)
    predictors = [OnlineClassifier(LAC(), alpha=0.2, memory=memory) for memory in (History(), Sketch(64))]
    for predictor in predictors:
        predictor.calibrate(probs, labels)
    exact, sketched = (predictor.predict(probs) for predictor in predictors)
    assert (sketched >= exact).all()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: Sketch(3), ValueError, "size must be even, got 3"),
        (lambda: Sketch(0), ValueError, "size must be at least 2"),
        (lambda: Sketch(2.0), TypeError, "size must be an integer"),
        (lambda: Sketch(2).add(math.nan), ValueError, "score must be finite, got nan"),
        (lambda: Sketch(2).extend(np.asarray([1.0, math.inf])), ValueError, "scores must be finite"),
        (lambda: Sketch(2).merge(History()), TypeError, "others must be of kind Sketch, got History"),
        (lambda: Sketch(2).merge(Sketch(4)), ValueError, "others must have size 2, got 4"),
        (lambda: (one := Sketch(2)).merge(one), ValueError, "count twice"),
        (
            lambda: Sketch(2).load_state_dict(Sketch(2).state_dict() | {"levels": [[1.0]]}),
            ValueError,
            "levels of 0 or 2 scores",
        ),
        (
            lambda: Sketch(2).load_state_dict(Sketch(2).state_dict() | {"pending": [1.0, 2.0]}),
            ValueError,
            "less than 2 pending",
        ),
    ],
)
def test_bad_use_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
