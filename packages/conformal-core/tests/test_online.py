"""Online predictors: what their methods call their arguments and what they pass on to the score."""

import numpy as np
import pytest

from conformal_core import ACI, APS, LAC, AbsoluteResidual, OnlineClassifier, OnlineRegressor

PROBS = np.asarray([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])


def classifier():
    predictor = OnlineClassifier(LAC(), level=ACI(alpha=0.5))
    predictor.calibrate(PROBS, [0, 1])
    return predictor


def regressor():
    predictor = OnlineRegressor(AbsoluteResidual(), level=ACI(alpha=0.5))
    predictor.calibrate(np.asarray([1.0, 2.0]), np.asarray([1.5, 2.5]))
    return predictor


@pytest.mark.parametrize(
    ("made", "method", "more", "name"),
    [
        (classifier, "calibrate", [0], "probs"),
        (classifier, "predict", [], "probs"),
        (classifier, "update", [0], "probs"),
        (classifier, "p_values", [], "probs"),
        (regressor, "calibrate", [1.0], "predictions"),
        (regressor, "predict", [], "predictions"),
        (regressor, "update", [1.0], "predictions"),
    ],
)
def test_an_argument_of_another_kind_is_named(made, method, more, name):
    with pytest.raises(TypeError, match=f"^{name} must hold real floating-point numbers, got bool"):
        getattr(made(), method)(np.asarray([True, False, True]), *more)


@pytest.mark.parametrize(
    ("made", "method", "row", "more"),
    [
        (classifier, "calibrate", [0.9, 0.9, 0.9], [0]),
        (classifier, "predict", [0.9, 0.9, 0.9], []),
        (classifier, "update", [0.9, 0.9, 0.9], [0]),
        (classifier, "p_values", [0.9, 0.9, 0.9], []),
        (regressor, "predict", np.inf, []),
    ],
)
def test_values_are_checked_unless_the_caller_says_otherwise(made, method, row, more):
    with pytest.raises(ValueError, match=r"^(probs|predictions) must"):
        getattr(made(), method)(np.asarray(row), *more)
    getattr(made(), method)(np.asarray(row), *more, check=False)


def test_a_set_that_is_empty_stays_so_unless_it_is_to_be_filled():
    predictor, unsure = classifier(), np.asarray([0.4, 0.3, 0.3])
    assert predictor.predict(unsure).tolist() == [False, False, False]
    assert predictor.predict(unsure, nonempty=True).tolist() == [True, False, False]


@pytest.mark.parametrize("score", [LAC(), APS(randomized=False), APS()])
def test_a_threshold_that_is_a_number_fills_sets_as_one_in_an_array_does(score):
    u = np.full(2, 0.9) if score.randomized else None
    by_number, by_array = (score.sets(PROBS, qhat, u=u, nonempty=True) for qhat in (0.1, np.asarray(0.1)))
    assert by_number.tolist() == by_array.tolist() == [[True, False, False], [False, True, False]]


@pytest.mark.parametrize(("made", "kind"), [(classifier, "OnlineClassifier"), (regressor, "OnlineRegressor")])
def test_a_state_says_what_it_is_of(made, kind):
    state = made().state_dict()
    assert (state["kind"], state["version"]) == (kind, 1)
    with pytest.raises(ValueError, match=f"^state must be of kind '{kind}', got 'Window'"):
        made().load_state_dict(state | {"kind": "Window"})
