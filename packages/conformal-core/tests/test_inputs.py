"""What stands for an array and is taken as one, and the sentence that refuses anything else."""

import math
from fractions import Fraction

import numpy as np
import pytest

from conformal_core import (
    ACI,
    APS,
    CQR,
    LAC,
    RAPS,
    SAPS,
    AbsoluteResidual,
    CalibrationBuffer,
    ClassConditionalClassifier,
    ClusteredClassifier,
    Exponential,
    Fixed,
    History,
    Mahalanobis,
    Margin,
    Mondrian,
    NormalizedResidual,
    NoveltyGate,
    OnlineClassifier,
    OnlineRegressor,
    Reservoir,
    Sketch,
    SplitClassifier,
    SplitRegressor,
    Window,
    class_coverage,
    conformal_quantile,
    coverage,
    group_coverage,
    p_values,
    prediction_set,
    rank_reliability,
    rolling_coverage,
    set_size,
    size_coverage,
    weighted_conformal_quantile,
)


class Column:
    """What a Series or a DataFrame of pandas shows to numpy."""

    def __init__(self, values) -> None:
        self._values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self._values if dtype is None else self._values.astype(dtype)


ONE_NUMBER = {
    "0-d": np.asarray,
    "float": float,
    "float64": np.float64,
    "float32": np.float32,
    "int": int,
    "int64": np.int64,
    "row": lambda v: np.asarray([v]),
    "list": lambda v: [v],
    "int32 row": lambda v: np.asarray([v], dtype=np.int32),
    "column": lambda v: Column([v]),
    "table": lambda v: [[v]],
}
FORMS = pytest.mark.parametrize("form", ONE_NUMBER.values(), ids=ONE_NUMBER)


@pytest.mark.filterwarnings("ignore:.*too few")
@FORMS
@pytest.mark.parametrize("kind", [SplitRegressor, OnlineRegressor])
def test_one_number_is_a_row_of_a_regression(form, kind):
    predictor = kind(AbsoluteResidual(), alpha=0.5)
    predictor.calibrate(form(3.0), form(5.0))
    predictor.update(form(3.0), form(5.0))
    assert np.asarray(predictor.predict(form(3.0))).ravel().tolist() == [1.0, 5.0]
    assert np.ravel(AbsoluteResidual()(form(3.0), form(5.0))).tolist() == [2.0]
    assert np.ravel(AbsoluteResidual().reliability(form(3.0), form(5.0), form(4.0))).tolist() == [0.5]


@pytest.mark.parametrize("score", [AbsoluteResidual(), NormalizedResidual(), CQR()])
def test_one_row_is_a_row_in_every_library(lib, score):
    row = lib(np.asarray([2.0, 4.0] if score.columns == 2 else 2.0))
    target = lib(np.asarray(5.0))
    got = score(row, target)
    assert tuple(got.shape) == ()
    assert type(got) is type(target)
    for kind in (SplitRegressor, OnlineRegressor):
        predictor = kind(score, alpha=0.5)
        predictor.calibrate(row, target)
        predictor.update(row, target)
        assert lib.back(predictor.predict(row))[1] == 5.0
    split = SplitRegressor(score, alpha=0.5)
    split.calibrate(row, target)
    assert float(lib.back(split.p_values(row, target))) == 1.0


def test_integers_of_every_library_are_numbers(lib):
    predictions, targets = lib(np.asarray([1, 2])), lib(np.asarray([3, 2], dtype=np.int32))
    assert lib.back(AbsoluteResidual()(predictions, targets)).tolist() == [2.0, 0.0]
    assert lib.back(AbsoluteResidual()(lib(np.asarray([1.0, 2.0], dtype=np.float32)), targets)).dtype == np.float64
    assert lib.back(conformal_quantile(predictions, alpha=0.5)).tolist() == 2.0
    assert lib.back(LAC()(lib(np.asarray([1, 0])))).tolist() == [0.0, 1.0]


ROWS = {
    "list": ([0.75, 0.25], 0),
    "list of rows": ([[0.75, 0.25]], [0]),
    "table": (Column([[0.75, 0.25]]), Column([0])),
    "0-d label": (np.asarray([0.75, 0.25]), np.asarray(0)),
    "int32": (np.asarray([0.75, 0.25]), np.int32(0)),
    "one-hot": ([1, 0], 0),
}


@pytest.mark.filterwarnings("ignore:.*too few")
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("score", [LAC(), APS(), RAPS(), SAPS(), Margin(), APS(randomized=True)])
def test_one_row_is_a_row_of_a_classification(rows, score):
    probs, label = rows
    wanted = np.asarray(probs), np.asarray(label)
    u = np.asarray(0.5) if score.randomized else None
    assert np.asarray(score(probs, label, u=u)).tolist() == np.asarray(score(*wanted, u=u)).tolist()
    for threshold in (0.5, np.float32(0.5), np.asarray(0.5), 1):
        np.testing.assert_array_equal(score.sets(probs, threshold, u=u), score.sets(wanted[0], float(threshold), u=u))
    for kind in (SplitClassifier, OnlineClassifier, ClassConditionalClassifier, ClusteredClassifier):
        predictor = kind(score, alpha=0.5)
        predictor.calibrate(probs, label)
        assert predictor.predict(probs).shape == wanted[0].shape
        if hasattr(predictor, "update"):
            predictor.update(probs, label)
            assert predictor.p_values(probs).shape == wanted[0].shape
            by_group = Mondrian(predictor)
            by_group.update(probs, label, groups="site")
            assert by_group.predict(probs, groups="site").shape == wanted[0].shape


@FORMS
@pytest.mark.parametrize(
    "memory", [History, Fixed, Sketch, lambda: Window(np.int64(9)), lambda: Reservoir(9), lambda: Exponential(0.5)]
)
def test_one_number_is_a_score_of_a_memory(form, memory):
    memory = memory()
    memory.extend(form(2))
    memory.extend(form(3))
    assert len(memory) == 2
    assert float(memory.quantile(Fraction(9, 10))) in {2.0, 3.0, -math.inf}
    assert np.ravel(memory.p_values(form(3)))[0] == memory.p_values(np.asarray([3.0]))[0]


def test_functions_take_lists_and_numbers():
    assert conformal_quantile([1, 2, 3], alpha=0.5) == 2
    assert conformal_quantile(Column([1.0, 2.0, 3.0]), alpha=["1/2", 0.25]).tolist() == [2, 3]
    assert weighted_conformal_quantile([1, 2, 3], [1, 1, 1], 1, alpha=0.5) == 2
    assert (
        prediction_set([1, 2, 3], 2).tolist() == prediction_set([1, 2, 3], np.int64(2)).tolist() == [True, True, False]
    )
    assert rank_reliability([1, 2, 3], 1, 2) == 0.5
    assert p_values([1, 2, 3], 2, u=0) == 0.25
    assert set_size([[True, False], [True, True]]).tolist() == [1, 2]
    buffer = CalibrationBuffer(np.int64(3))
    buffer.overwrite(1, 0.5)
    buffer.overwrite([0, 2], [1, 2])
    assert buffer.scores.tolist() == [1.0, 0.5, 2.0]


def test_metrics_take_lists_tables_and_one_row():
    for sets, labels, groups in (([True, False], 0, 0), (Column([[True, False]]), Column([0]), [0])):
        assert coverage(sets, labels).coverage == 1
        assert class_coverage(sets, labels).rows.tolist() == [1, 0]
        assert size_coverage(sets, labels).rows.tolist() == [0, 1, 0]
        assert group_coverage(sets, labels, groups=groups).coverage.tolist() == [1]
    assert rolling_coverage([True, False], window=np.int64(1)).tolist() == [1, 0]


@pytest.mark.parametrize("score", [Mahalanobis, lambda: Mahalanobis(classes=2)])
def test_novelty_takes_lists_tables_and_one_row(lib, score):
    listed, array = score(), score()
    listed.update([[1, 2], [3, 4], [2, 2]], [0, 1, 1])
    listed.update([1, 2], 0)
    listed.update(Column([[1.0, 5.0]]), Column([1]))
    array.update(lib([[1.0, 2.0], [3.0, 4.0], [2.0, 2.0], [1.0, 2.0], [1.0, 5.0]]), lib([0, 1, 1, 0, 1]))
    one = array(lib([9.0, 1.0]))
    assert tuple(one.shape) == ()
    assert type(one) is type(lib([1.0]))
    assert float(listed([9, 1])) == pytest.approx(float(lib.back(one)))
    gate = NoveltyGate(array, alpha=0.5)
    gate.calibrate(lib([1.0, 3.0]))
    gate.calibrate([[2, 2], [4, 4]])  # beside a score that has learned from this library
    assert tuple(gate.weights(lib([9.0, 9.0])).shape) == tuple(gate.p_values(lib([9.0, 9.0])).shape) == ()


def test_scores_of_users_may_return_numbers():
    gate = NoveltyGate(lambda features, check=None: np.asarray(features).sum(-1), alpha=0.5)
    gate.calibrate([[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]])
    assert gate.weights([4.0, 4.0]) == pytest.approx(0.5)
    assert gate.p_values([4.0, 4.0]) == 0.25

    class Distance:
        columns = 1

        def __call__(self, predictions, targets, check=None):
            return abs(float(predictions) - float(targets))

        def interval(self, predictions, qhat, check=None):
            return np.asarray([predictions - qhat, predictions + qhat])

    for kind in (SplitRegressor, OnlineRegressor):
        predictor = kind(Distance(), alpha=0.5)
        predictor.calibrate(1.0, 3.0)
        predictor.update(1.0, 3.0)
        assert predictor.predict(1.0).tolist() == [-1.0, 3.0]


def test_lists_come_to_the_library_of_what_they_stand_beside(lib):
    probs = lib([[0.5, 0.5], [0.25, 0.75]])
    assert type(LAC()(probs, [0, 1])) is type(probs)
    assert type(AbsoluteResidual()(lib([1.0]), [2])) is type(probs)
    predictor = SplitClassifier(LAC(), alpha=0.5)
    predictor.calibrate(probs, [0, 1])
    assert lib.back(predictor.predict(probs)).any()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: LAC()([[0.5, 0.5]], ["cat"]),
            TypeError,
            r"labels must be positions 0\.\.K-1, got names such as 'cat'",
        ),
        (lambda: LAC()([0.5, 0.5], "cat"), TypeError, r"numpy\.searchsorted\(model\.classes_, labels\)"),
        (lambda: LAC()([[0.5, 0.5]], Column(np.asarray(["cat"], dtype=object))), TypeError, "names such as 'cat'"),
        (
            lambda: LAC()([[0.5, 0.5]], [1.0]),
            TypeError,
            "labels must hold integers, got float64: if they are positions",
        ),
        (lambda: LAC()([[0.5, 0.5]], [True]), TypeError, "labels must hold integers, got bool"),
        (lambda: LAC()([[0.5, 0.5], [1.0]]), ValueError, "probs must have rows of one length, got a ragged list"),
        (lambda: LAC()(None), TypeError, "probs must be an array .*, got NoneType"),
        (lambda: LAC()({"a": 1.0}), TypeError, "probs must be an array .*, got dict"),
        (lambda: LAC()([["a", "b"]]), TypeError, "probs must hold real floating-point numbers, got <U1: convert it"),
        (
            lambda: AbsoluteResidual()(np.asarray([1.0], dtype=object), [1.0]),
            TypeError,
            r"got object: convert it, for example by numpy\.asarray\(predictions, dtype=float\)",
        ),
        (lambda: AbsoluteResidual()(True, 1.0), TypeError, "predictions must hold real .*, got bool"),
        (lambda: AbsoluteResidual()(1.0, 1j), TypeError, "targets must be an array .*, got complex"),
        (
            lambda: AbsoluteResidual()([1.0, 2.0], [[1.0], [2.0]]),
            ValueError,
            r"targets must broadcast to shape \(2,\), got \(2, 1\): reshape\(-1\) drops an axis of length 1",
        ),
        (
            lambda: Mondrian(SplitClassifier(LAC(), alpha=0.5)).calibrate([[0.5, 0.5]], [0], groups=[0.5]),
            TypeError,
            "groups must be integers or strings, got float",
        ),
        (
            lambda: SplitClassifier(LAC, alpha=0.1),
            TypeError,
            r"score must be an instance, such as LAC\(\), got the class",
        ),
    ],
)
def test_what_has_no_clear_meaning_is_refused_with_its_cure(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_lists_of_tensors_are_not_guessed_at():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"got a list of torch\.Tensor: stack them into one first"):
        AbsoluteResidual()([torch.tensor(1.0)], [1.0])


@FORMS
def test_a_row_is_found_again_in_the_form_it_was_predicted_in(form):
    predictor = OnlineRegressor(AbsoluteResidual(), level=ACI(alpha=0.5, gamma=0.1))
    predictor.calibrate([0, 0, 0], [1, 2, 3])
    predictor.predict(form(3.0))
    assert predictor.pending == 1
    predictor.update(form(3.0), form(9.0))
    assert predictor.pending == 0
    assert predictor.level.current == Fraction(9, 20)
