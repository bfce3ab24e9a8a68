"""What does not fit the calibration, or the predictor, is refused before anything changes."""

import numpy as np
import pytest

from conformal_core import (
    APS,
    CQR,
    LAC,
    AbsoluteResidual,
    ClassConditionalClassifier,
    ClusteredClassifier,
    Mahalanobis,
    Mondrian,
    NoveltyGate,
    OnlineClassifier,
    OnlineRegressor,
    SplitClassifier,
    SplitRegressor,
)


def test_another_number_of_classes_is_refused_everywhere():
    five, four = np.full((30, 5), 0.2), np.full((3, 4), 0.25)
    labels = np.arange(30) % 5
    for kind in (SplitClassifier, OnlineClassifier, ClassConditionalClassifier, ClusteredClassifier):
        predictor, loaded = (kind(LAC(), alpha=0.5) for _ in range(2))
        predictor.calibrate(five, labels)
        loaded.load_state_dict(predictor.state_dict())
        for one in (predictor, loaded):
            for call in (
                lambda p: p.predict(four),
                lambda p: p.predict(four[0]),
                lambda p: p.p_values(four),
                lambda p: p.update(four, [0, 1, 2]),
            ):
                with pytest.raises(ValueError, match="probs must have the 5 classes of calibration, got 4"):
                    call(one)
    predictor = SplitClassifier(LAC(), alpha=0.5)
    predictor.calibrate(five, labels)
    predictor.calibrate(four, [0, 1, 2])  # which forgets the rows of before
    assert predictor.predict(four).shape == (3, 4)


def test_another_number_of_classes_is_refused_for_groups():
    predictor, loaded = (Mondrian(SplitClassifier(LAC(), alpha=0.5)) for _ in range(2))
    predictor.calibrate([[0.5, 0.5]] * 3, [0, 1, 1], groups=[0, 0, 0])
    loaded.load_state_dict(predictor.state_dict())
    for one in (predictor, loaded):
        with pytest.raises(ValueError, match="probs must have the 2 classes of calibration, got 3"):
            one.predict([0.5, 0.25, 0.25], groups=0)


def test_a_state_without_the_number_of_classes_is_refused():
    predictor = SplitClassifier(LAC(), alpha=0.5)
    predictor.calibrate(np.full((10, 5), 0.2), np.arange(10) % 5)
    state = predictor.state_dict()
    with pytest.raises(ValueError, match="state of SplitClassifier must hold classes, got only"):
        predictor.load_state_dict({key: value for key, value in state.items() if key != "classes"})
    with pytest.raises(ValueError, match="must hold an integer of at least 0 as classes"):
        predictor.load_state_dict(state | {"classes": "five"})
    for other in ({"classes": "five"}, {}):
        with pytest.raises(ValueError, match="state "):
            predictor.load_state_dict(other)


@pytest.mark.parametrize("kind", [SplitRegressor, OnlineRegressor])
@pytest.mark.parametrize("score", [AbsoluteResidual(), CQR()])
def test_several_targets_a_row_are_not_pooled(lib, kind, score):
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(40, 2)) * [1, 10]
    predictions = np.zeros((40, 2)) if score.columns == 1 else np.stack([targets - 1, targets + 1], -1)
    predictor = kind(score, alpha=0.1)
    for learn in (predictor.calibrate, predictor.update):
        with pytest.raises(ValueError, match=r"targets must have shape \(N,\), one for each row, got \(40, 2\): make"):
            learn(lib(predictions), lib(targets))
    saved = predictor.state_dict()["memory"]["scores"]
    assert saved is None or not len(saved)
    predictor.calibrate(
        lib(predictions[:, :1]), lib(targets[:, :1])
    )  # one column in an axis of its own is one target a row
    assert tuple(score(lib(predictions), lib(targets)).shape) == (40, 2)  # a score takes any shape
    for classifier in (SplitClassifier, OnlineClassifier, ClassConditionalClassifier, ClusteredClassifier):
        with pytest.raises(ValueError, match=r"labels must have shape \(N,\), one for each row, got \(2, 3\)"):
            classifier(LAC(), alpha=0.1).calibrate(lib(np.full((2, 3, 2), 0.5)), lib(np.zeros((2, 3), dtype=np.int64)))


@pytest.mark.parametrize("kind", [SplitRegressor, OnlineRegressor])
def test_a_table_of_swapped_quantiles_is_refused_and_some_that_cross_are_not(lib, kind):
    rng = np.random.default_rng(0)
    targets = rng.normal(size=40)
    right = np.stack([targets - 1, targets + 1], -1)
    predictor = kind(CQR(), alpha=0.1)
    with pytest.raises(
        ValueError, match=r"must be \(lower, upper\), got 40 of 40 rows with lower > upper: swap the col"
    ):
        predictor.calibrate(lib(right[:, ::-1].copy()), lib(targets), check=lib.check)
    mixed = np.where((np.arange(40) < 28)[:, None], right[:, ::-1], right)  # 28 of 40 is below three quarters
    predictor.calibrate(lib(mixed), lib(targets), check=lib.check)
    predictor.calibrate(lib(right[0, ::-1].copy()), lib(targets[0]), check=lib.check)  # one row that crosses is legal


def test_a_score_of_the_other_kind_is_refused():
    for kind, score, message in (
        (SplitRegressor, LAC(), "score must have the method interval, as subclasses of RegressionScore do, got LAC"),
        (OnlineRegressor, LAC(), "score must have the method interval"),
        (SplitClassifier, CQR(), "score must have the method sets, as subclasses of ClassificationScore do, got CQR"),
        (OnlineClassifier, lambda probs: probs, "score must have the method sets, .* got function"),
    ):
        with pytest.raises(TypeError, match=message):
            kind(score, alpha=0.1)
    with pytest.raises(TypeError, match="memory must have the methods of Memory, got list"):
        NoveltyGate(Mahalanobis(), memory=[])


@pytest.mark.parametrize("kind", [SplitClassifier, ClassConditionalClassifier, ClusteredClassifier])
def test_what_was_calibrated_in_one_library_is_asked_in_another(kind):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(3), size=90), np.arange(90) % 3
    one, other = kind(LAC(), alpha=0.3), kind(LAC(), alpha=0.3)
    one.calibrate(torch.from_numpy(probs), torch.from_numpy(labels))
    other.calibrate(probs, labels)
    wanted = other.predict(probs[:5])
    np.testing.assert_array_equal(one.predict(probs[:5]), wanted)
    np.testing.assert_array_equal(one.predict(probs[:5].tolist()), wanted)
    np.testing.assert_array_equal(other.predict(torch.from_numpy(probs[:5])).numpy(), wanted)
    np.testing.assert_array_equal(one.p_values(probs[:5]), other.p_values(probs[:5]))
    one.update(probs[:5], labels[:5])
    other.update(torch.from_numpy(probs[:5]), torch.from_numpy(labels[:5]))
    np.testing.assert_array_equal(one.p_values(probs), other.p_values(probs))


def test_a_number_is_a_row_of_a_regressor_calibrated_with_tensors():
    torch = pytest.importorskip("torch")
    predictor = SplitRegressor(AbsoluteResidual(), alpha=0.5)
    predictor.calibrate(torch.zeros(9, dtype=torch.float64), torch.arange(1.0, 10.0, dtype=torch.float64))
    assert predictor.predict(1.0).tolist() == [-4.0, 6.0]
    assert float(predictor.p_values(1.0, 6.5)) == 0.5


@pytest.mark.parametrize("kind", [SplitClassifier, OnlineClassifier, ClassConditionalClassifier, ClusteredClassifier])
def test_a_state_of_another_score_is_refused(kind):
    made, other = kind(APS(), alpha=0.5), kind(LAC(), alpha=0.5)
    made.calibrate(np.full((30, 3), 1 / 3), np.arange(30) % 3)
    with pytest.raises(ValueError, match=r"must have score = 'LAC\(.*\)' as here, got 'APS\(.*\)'"):
        other.load_state_dict(made.state_dict())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LAC()(np.full((4, 3), 1 / 3), np.eye(3, dtype=int)[[0, 1, 2, 0]]), "argmax.* of one-hot rows"),
        (lambda: LAC()(np.full((4, 3), 1 / 3), np.zeros((4, 1), dtype=int)), r"pass labels\[\.\.\., 0\]"),
        (lambda: LAC()(np.full(3, 1 / 3), np.zeros(5, dtype=int)), r"those of N rows have shape \(N, K\)"),
        (lambda: LAC()(np.asarray([[1.5, -0.5]])), "pass the softmax of logits"),
    ],
)
def test_a_misfit_names_its_cure(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_rows_take_no_labels():
    assert LAC()(np.empty((0, 3)), []).shape == (0,)


def test_a_gate_warns_once_for_a_memory_that_is_too_short():
    gate = NoveltyGate(Mahalanobis(), alpha=0.02)
    gate.score.update(np.random.default_rng(0).normal(size=(50, 2)))
    gate.calibrate(np.ones((3, 2)))
    with pytest.warns(UserWarning, match="3 calibration scores are too few .* no input is down-weighted"):
        gate.weights(np.ones((1, 2)))
    assert gate.weights(np.ones((1, 2))).tolist() == [1.0]  # a second warning would be an error


@pytest.mark.parametrize("alpha", [np.float32(0.01), np.float16(0.1), np.float64(0.1)])
def test_the_repr_of_an_alpha_of_any_precision_rebuilds_it(alpha):
    made = SplitClassifier(LAC(), alpha=alpha)
    eval(repr(made)).load_state_dict(made.state_dict())  # noqa: S307
