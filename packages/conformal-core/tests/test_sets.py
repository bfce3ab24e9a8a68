import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import reference
from conformal_core import LAC, SplitClassifier, p_values, prediction_set, rank_reliability, set_size

grid = st.sampled_from([0.0, -0.0, 5e-324, 0.25, 0.5, 0.75, 1.0])
matrices = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
    elements=st.sampled_from([0.0, -0.0, 0.25, 0.5, 0.75, 1.0]),
)


@given(matrices, st.sampled_from([0.0, 0.25, 0.6, 1.0, math.inf, -math.inf]))
def test_sets_hold_what_does_not_exceed_the_threshold(lib, scores, qhat):
    sets = lib.back(prediction_set(lib(scores), qhat))
    assert sets.dtype == bool
    assert sets.tolist() == [[float(s) <= qhat for s in row] for row in scores]
    assert lib.back(set_size(prediction_set(lib(scores), qhat))).tolist() == sets.sum(1).tolist()


@given(matrices, st.sampled_from([0.0, 0.6, -math.inf]))
def test_nonempty_adds_the_first_best_label_to_empty_sets_only(lib, scores, qhat):
    plain = lib.back(prediction_set(lib(scores), qhat))
    filled = lib.back(prediction_set(lib(scores), qhat, nonempty=True))
    for row, before, after in zip(scores, plain, filled, strict=True):
        if before.any():
            assert (after == before).all()
        else:
            assert np.flatnonzero(after).tolist() == [int(np.argmin(row))]


def test_a_threshold_for_each_row(lib):
    scores = np.asarray([[[0.1, 0.4], [0.5, 0.2]], [[0.9, 0.3], [0.7, 0.8]]])
    qhat = np.asarray([[0.1, 0.5], [0.3, 0.0]])
    assert lib.back(prediction_set(lib(scores), lib(qhat))).tolist() == (scores <= qhat[..., None]).tolist()


@given(matrices, st.data(), st.sampled_from(["normalized", "reciprocal"]))
def test_reliability_is_the_definition(lib, scores, data, kind):
    labels = np.asarray(
        data.draw(st.lists(st.integers(0, scores.shape[1] - 1), min_size=len(scores), max_size=len(scores)))
    )
    qhat = data.draw(st.sampled_from([0.0, 0.25, 0.6, math.inf, -math.inf]))
    got = lib.back(rank_reliability(lib(scores), lib(labels), qhat, kind=kind))
    assert got.dtype == scores.dtype
    for row, label, r in zip(scores, labels, got, strict=True):
        wanted = reference.reliability([float(s) for s in row], int(label), qhat, kind)
        assert float(r) == pytest.approx(float(wanted), abs=1e-6 if scores.dtype == np.float32 else 1e-15)
        size = sum(float(s) <= qhat for s in row)
        assert (r > 0) == (float(row[label]) <= qhat)
        assert kind == "reciprocal" or r == 0 or r >= 1 / size - 1e-6


def test_sizes_of_any_leading_shape(lib):
    sets = np.random.default_rng(0).random((3, 4, 5)) < 0.5
    assert lib.back(set_size(lib(sets))).tolist() == sets.sum(-1).tolist()
    assert int(lib.back(set_size(lib(sets[0, 0])))) == sets[0, 0].sum()


def test_reliability_takes_any_leading_shape(lib):
    rng = np.random.default_rng(0)
    scores, labels = rng.random((3, 4, 5)), rng.integers(0, 5, (3, 1))
    qhat = rng.random((3, 4))
    got = lib.back(rank_reliability(lib(scores), lib(labels), lib(qhat)))
    for i in np.ndindex(3, 4):
        wanted = reference.reliability(list(scores[i]), int(labels[i[0], 0]), qhat[i], "normalized")
        assert got[i] == pytest.approx(float(wanted))


@given(
    st.lists(grid, max_size=12), st.lists(grid, min_size=1, max_size=5), st.none() | st.sampled_from([0.0, 0.25, 1.0])
)
def test_p_values_are_the_definition(lib, calibration, scores, u):
    got = lib.back(p_values(lib(calibration, np.float64), lib(scores, np.float64), u=u))
    assert got.dtype == np.float64
    for score, p in zip(scores, got, strict=True):
        assert float(p) == pytest.approx(float(reference.p_value(calibration, score, u)), abs=1e-15)


@given(st.lists(st.integers(0, 20).map(lambda i: i / 20), min_size=1, max_size=30), st.integers(1, 19))
def test_a_label_is_in_the_set_exactly_when_its_p_value_exceeds_alpha(scores, twentieths):
    """Also at the boundary, where p = α exactly, and where the rank falls outside the calibration set."""
    alpha = twentieths / 20
    probs = np.asarray([[s, 1 - s] for s in scores])
    predictor = SplitClassifier(LAC(), alpha=alpha)
    predictor.calibrate(probs, np.zeros(len(scores), dtype=int))
    if len(scores) + 1 < 1 / alpha:
        with pytest.warns(UserWarning, match="too few"):
            predictor.qhat  # noqa: B018
    test = np.asarray([[p, 1 - p] for p in np.linspace(0, 1, 21)])
    assert (predictor.predict(test) == (predictor.p_values(test) > alpha)).all()


def test_smoothed_p_values_are_uniform_on_exchangeable_data():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (20_000, 10)) / 5  # many ties
    p = np.asarray([p_values(row[1:], row[:1], u=u)[0] for row, u in zip(values, rng.random(len(values)), strict=True)])
    for level in (0.05, 0.1, 0.5, 0.9):
        bound = 4 * math.sqrt(level * (1 - level) / len(p))  # four standard errors: one in 16,000
        assert abs((p <= level).mean() - level) < bound


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda a: prediction_set(a([[math.nan, 1.0]]), 0.5, check=a.check),
            ValueError,
            r"scores must be finite, got nan at index \(0, 0\)",
        ),
        (lambda a: prediction_set(a([[0.0, 1.0]]), math.nan, check=a.check), ValueError, "qhat must not be NaN"),
        (lambda a: prediction_set(a(0.5), 0.5, check=a.check), ValueError, r"scores must have shape \(\.\.\., K\)"),
        (lambda a: prediction_set(a(np.zeros((2, 0))), 0.5, check=a.check), ValueError, "with K >= 1"),
        (lambda a: set_size(a([0.5])), TypeError, "sets must hold booleans"),
        (
            lambda a: rank_reliability(a([[0.1, 0.2]]), a([2]), 0.5, check=a.check),
            ValueError,
            r"labels must lie in 0\.\.1, got 2 at row 0",
        ),
        (
            lambda a: rank_reliability(a([[0.1, 0.2]]), a([-1]), 0.5, check=a.check),
            ValueError,
            r"labels must lie in 0\.\.1, got -1 at row 0",
        ),
        (
            lambda a: rank_reliability(a([[0.1, 0.2]]), a([0.0]), 0.5, check=a.check),
            TypeError,
            "labels must hold integers",
        ),
        (
            lambda a: rank_reliability(a([[0.1, 0.2]]), a([0, 1]), 0.5, check=a.check),
            ValueError,
            r"labels must broadcast to shape \(1,\)",
        ),
        (lambda a: rank_reliability(a([[0.1, 0.2]]), a([0]), 0.5, kind="x", check=a.check), ValueError, "kind must be"),
        (
            lambda a: p_values(a([[0.1]]), a([0.1]), check=a.check),
            ValueError,
            r"calibration_scores must have shape \(N,\)",
        ),
        (lambda a: p_values(a([math.nan]), a([0.1]), check=a.check), ValueError, "calibration_scores must be finite"),
        (lambda a: p_values(a([0.1]), a([math.nan]), check=a.check), ValueError, "scores must be finite"),
        (lambda a: p_values(a([0.1]), a([0.1]), u=1.5, check=a.check), ValueError, r"u must lie in \[0, 1\], got 1.5"),
        (
            lambda a: p_values(a([0.1]), a([0.1]), u=math.nan, check=a.check),
            ValueError,
            r"u must lie in \[0, 1\], got nan",
        ),
    ],
)
def test_bad_input_is_refused(lib, call, kind, message):
    with pytest.raises(kind, match=message):
        call(lib)


def test_libraries_are_not_mixed():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="labels must come from the same array library as the other arguments, got"):
        rank_reliability(np.zeros((1, 2)), torch.zeros(1, dtype=torch.int64), 0.5)
    with pytest.raises(TypeError, match="qhat must come from the same array library"):
        prediction_set(torch.zeros(1, 2), np.asarray(0.5))
    with pytest.raises(TypeError, match="must be an array"):
        prediction_set(None, 0.5)
