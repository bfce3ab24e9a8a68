"""What does not fit the calibration, or the predictor, is refused before anything changes."""

import numpy as np
import pytest

from conformal_core import (
    CQR,
    LAC,
    AbsoluteResidual,
    ClusteredClassifier,
    FeatureNorm,
    MondrianClassifier,
    NoveltyGate,
    OnlineClassifier,
    OnlineRegressor,
    SplitClassifier,
    SplitRegressor,
)


def test_another_number_of_classes_is_refused_everywhere():
    five, four = np.full((30, 5), 0.2), np.full((3, 4), 0.25)
    labels = np.arange(30) % 5
    for kind in (SplitClassifier, OnlineClassifier, MondrianClassifier, ClusteredClassifier):
        predictor, loaded = (kind(LAC(), alpha=0.5) for _ in range(2))
        predictor.calibrate(five, labels)
        loaded.load_state_dict(predictor.state_dict())
        for one in (predictor, loaded):
            calls = [lambda p: p.predict(four), lambda p: p.predict(four[0])]
            if kind in {SplitClassifier, OnlineClassifier}:
                calls += [lambda p: p.p_values(four), lambda p: p.update(four, [0, 1, 2])]
            for call in calls:
                with pytest.raises(ValueError, match="probs must have the 5 classes of calibration, got 4"):
                    call(one)
    predictor = SplitClassifier(LAC(), alpha=0.5)
    predictor.calibrate(five, labels)
    predictor.calibrate(four, [0, 1, 2])  # which forgets the rows of before
    assert predictor.predict(four).shape == (3, 4)


def test_another_number_of_classes_is_refused_for_groups():
    predictor, loaded = (MondrianClassifier(LAC(), alpha=0.5, groups=1) for _ in range(2))
    predictor.calibrate([[0.5, 0.5]] * 3, [0, 1, 1], [0, 0, 0])
    loaded.load_state_dict(predictor.state_dict())
    for one in (predictor, loaded):
        with pytest.raises(ValueError, match="probs must have the 2 classes of calibration, got 3"):
            one.predict([0.5, 0.25, 0.25], 0)


def test_a_state_without_the_number_of_classes_loads():
    predictor = SplitClassifier(LAC(), alpha=0.5)
    predictor.calibrate(np.full((10, 5), 0.2), np.arange(10) % 5)
    state = {key: value for key, value in predictor.state_dict().items() if key != "classes"}
    predictor.load_state_dict(state)
    assert predictor.predict(np.asarray([0.5, 0.5])).shape == (2,)
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
    for classifier in (SplitClassifier, OnlineClassifier, MondrianClassifier, ClusteredClassifier):
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
        (SplitRegressor, LAC(), "score must have the method interval, as subclasses of ResidualScore do, got LAC"),
        (OnlineRegressor, LAC(), "score must have the method interval"),
        (SplitClassifier, CQR(), "score must have the method sets, as subclasses of Score do, got CQR"),
        (OnlineClassifier, lambda probs: probs, "score must have the method sets, .* got function"),
    ):
        with pytest.raises(TypeError, match=message):
            kind(score, alpha=0.1)
    with pytest.raises(TypeError, match="memory must have the methods of Memory, got list"):
        NoveltyGate(FeatureNorm(), memory=[])
