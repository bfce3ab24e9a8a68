"""One row and one label in every form that a loop passes give what a batch of rows gives, bit for bit."""

import bisect
import operator
from fractions import Fraction
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformal_core import (
    APS,
    LAC,
    RAPS,
    SAOCP,
    SAPS,
    AbsoluteResidual,
    DtACI,
    History,
    Margin,
    OnlineRegressor,
    Threshold,
    Window,
)
from conformal_core._arrays import narrow
from conformal_core.memory.ordered import SortedCopy

SCORES = [
    *(LAC(), Margin(), SAPS(), SAPS(weight=0.0), APS(), RAPS(), RAPS(penalty=0.3, free_ranks=1)),
    *(SAPS(randomized=True), APS(randomized=True), RAPS(randomized=True)),
]


def table(classes, dtype):
    """Rows without and with ties, with and without classes without mass."""
    rng = np.random.default_rng(classes)
    ties = rng.integers(0, 3, (6, classes)) + np.eye(6, classes)
    probs = np.vstack([rng.dirichlet(np.ones(classes), 6), ties / np.maximum(ties.sum(1, keepdims=True), 1)])
    probs[:, 0] += 1 - probs.sum(1)
    return np.abs(probs).astype(dtype), rng.integers(0, classes, 12), rng.random(12).astype(dtype)


def tensor(array):
    return pytest.importorskip("torch").from_numpy(array)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("classes", [1, 2, 9, 40])
@pytest.mark.parametrize("score", SCORES, ids=repr)
def test_rows_are_scored_as_in_a_batch(score, classes, dtype):
    probs, labels, u = table(classes, dtype)
    draws = {"u": u} if score.randomized else {}
    every, own = score(probs, **draws), score(probs, labels, **draws)
    for i, row in enumerate(probs):
        draw = {"u": u[i]} if score.randomized else {}
        np.testing.assert_array_equal(score(row, **draw), every[i])
        np.testing.assert_array_equal(score(row, labels[i], **draw), own[i])
        for qhat in (*every[i, :4].tolist(), 0.5, 2.0, np.inf):
            low = float(np.nextafter(np.asarray(qhat, dtype=dtype), -1))
            for q in (narrow(qhat, probs), low):
                np.testing.assert_array_equal(score.sets(row, q, **draw), every[i] <= q)


@pytest.mark.parametrize("score", [LAC(), APS(), RAPS(), SAPS(), Margin()], ids=repr)
def test_forms_of_rows_and_labels(score):
    probs, labels, _ = table(9, "f8")
    want, sets = score(probs, labels), score.sets(probs, 0.8)
    for i, label in enumerate(labels):
        for form in (int(label), label, np.asarray(label), np.uint8(label)):
            got = score(probs[i], form)
            assert (got.shape, float(got)) == ((), want[i])
        for form in (int(label), labels[i : i + 1]):
            got = score(probs[i : i + 1], form)
            assert (got.shape, float(got[0])) == ((1,), want[i])
        assert score.sets(probs[i : i + 1], 0.8).tolist() == [sets[i].tolist()]


def test_forms_of_tensors():
    torch = pytest.importorskip("torch")
    probs, labels, _ = table(9, "f4")
    rows, own = tensor(probs), tensor(labels)
    for i in range(len(rows)):
        for got, want in (
            (LAC()(rows[i], own[i]), LAC()(rows, own)[i]),
            (LAC()(rows[i : i + 1], own[i : i + 1]), LAC()(rows, own)[i : i + 1]),
            (APS().sets(rows[i], 0.5), APS().sets(rows, 0.5)[i]),
            (APS().sets(rows[i : i + 1], 0.5), APS().sets(rows, 0.5)[i : i + 1]),
        ):
            assert torch.equal(got, want)
            assert got.dtype == want.dtype
    with pytest.raises(TypeError, match="must come from the same array library"):
        LAC()(rows[0], np.asarray(1))


@pytest.mark.parametrize(
    ("probs", "label", "words"),
    [
        ([0.5, 0.5], np.int64(2), r"labels must lie in 0\.\.1, got 2"),
        ([0.5, 0.5], np.asarray([1]), "probs of one row take one label"),
        ([[0.5, 0.25]], 0, "must sum to 1 over the last axis, got 0.75 in row 0"),
        ([[1.5, -0.5]], np.asarray([0]), r"must not be negative, got -0.5 at index \(0, 1\)"),
        ([0.5, np.nan], 0, "probs must be finite, got nan at index 1"),
    ],
)
def test_invalid_rows_and_labels_are_refused_with_their_place(probs, label, words):
    with pytest.raises(ValueError, match=words):
        LAC()(np.asarray(probs), label)


def test_draws_of_one_row_differ_and_lie_in_the_unit_interval():
    draws = np.asarray([APS(randomized=True)(np.asarray([1.0]), 0) for _ in range(200)])
    assert len(set(draws.tolist())) == 200
    assert 0 <= draws.min() < 0.1
    assert 0.9 < draws.max() <= 1


@pytest.mark.parametrize("level", [None, DtACI], ids=["constant", "DtACI"])
def test_a_stream_is_the_same_in_every_form(level):
    rng = np.random.default_rng(0)
    predictions, targets = rng.normal(size=(2, 80))
    forms = {
        "numbers": (predictions.tolist(), targets.tolist()),
        "numpy": (predictions, targets),
        "slices": (predictions[:, None], targets[:, None]),
    }
    if find_spec("torch"):
        forms["tensors"] = tensor(predictions), tensor(targets)
    states, intervals = [], []
    for p, y in forms.values():
        options = {"level": level(alpha=0.2)} if level else {"alpha": 0.2}
        stream = OnlineRegressor(AbsoluteResidual(), **options)
        stream.calibrate(predictions[:20], targets[:20])
        intervals.append([])
        for i in range(20, 80):
            intervals[-1].append(np.asarray(stream.predict(p[i])).ravel().tolist())
            stream.update(p[i], y[i])
        states.append(stream.state_dict())
    for state, found in zip(states, intervals, strict=True):
        np.testing.assert_equal(state, states[0])
        assert found == intervals[0]


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=300), st.integers(0, 40))
def test_a_copy_counts_as_the_list_does(changes, start):
    scores = sorted(float(i % 13) for i in range(start))
    copy = SortedCopy(scores)
    values = np.arange(-1, 14, 0.5)
    for value, added in changes:
        if added:
            bisect.insort(scores, float(value))
        elif value in scores:
            scores.remove(float(value))
        else:
            continue
        copy.change(float(value), added=added)
    shuffled = np.random.default_rng(0).permutation(values)
    for side, compare in (("left", operator.ge), ("right", operator.gt)):
        counts = copy.count(shuffled, side).tolist()
        assert counts == [sum(compare(score, value) for score in scores) for value in shuffled.tolist()]


@pytest.mark.parametrize("make", [History, lambda: Window(150)], ids=["History", "Window"])
def test_p_values_of_many_labels_follow_the_memory(make):
    rng = np.random.default_rng(0)
    memory, values = make(), rng.random((2, 50)).round(2)
    for score in rng.random(400).round(2).tolist():
        memory.add(score)
        if len(memory) % 7 == 0:
            got = memory.p_values(values)
            assert got.shape == (2, 50)
            assert got.ravel().tolist() == [float(memory.p_values(np.asarray(v))) for v in values.ravel()]
    again = make()
    again.load_state_dict(memory.state_dict())
    np.testing.assert_array_equal(again.p_values(values), memory.p_values(values))
    memory.reset()
    assert memory.p_values(values).tolist() == np.ones((2, 50)).tolist()


def test_merged_histories_have_p_values_of_both():
    left, right, values = History(), History(), np.linspace(0, 1, 40)
    left.extend(np.linspace(0, 1, 30))
    left.p_values(values)
    right.extend(np.linspace(0, 0.5, 30))
    left.merge(right)
    assert left.p_values(values).tolist() == [float(left.p_values(np.asarray(v))) for v in values]


def test_the_level_of_dtaci_is_the_exact_mean_of_its_experts():
    level, memory = DtACI(alpha="1/7", gammas=["1/3", 0.01, 0.5]), History()
    memory.extend(np.random.default_rng(0).random(50))
    for score in (0.1, 0.9, 0.95, 0.2, 0.99):
        level.update(score, level.threshold(memory), memory)
        state = level.state_dict()
        weights = [Fraction(weight) for weight in state["weights"].tolist()]
        levels = [Fraction(expert["current"]) for expert in state["experts"]]
        assert level.current == sum(weight * one for weight, one in zip(weights, levels, strict=True))


def test_saocp_learns_the_same_from_a_copy_of_its_threshold():
    levels = [SAOCP(alpha=0.1, scale=1.0) for _ in range(2)]
    for score in np.random.default_rng(0).random(60).tolist():
        first, second = (level.threshold() for level in levels)
        levels[0].update(score, first)
        levels[1].update(score, Threshold(float(second), list(second.parts)))
    np.testing.assert_equal(levels[0].state_dict(), levels[1].state_dict())
    for level in levels:  # no learner was there: all are compared at the threshold itself
        level.update(0.5, Threshold(0.25, ()))
    np.testing.assert_equal(levels[0].state_dict(), levels[1].state_dict())
    assert (levels[0].state_dict()["learners"][:-1, 2] > 0).all()


@given(st.floats(-3.5e38, 3.5e38))
def test_a_threshold_is_rounded_up_to_single_precision(qhat):
    rounded = narrow(qhat, np.zeros(1, dtype=np.float32))
    assert rounded >= qhat or qhat > float(np.finfo(np.float32).max)
    assert rounded == np.inf or float(np.float32(rounded)) == rounded
    if np.isfinite(rounded) and rounded > float(np.finfo(np.float32).min):
        assert float(np.nextafter(np.float32(rounded), np.float32(-np.inf))) < qhat
