"""Scores of several outputs: their regions, how they are fitted, and what is refused."""

import math

import numpy as np
import pytest

from conformal_core import (
    ACI,
    EllipsoidResidual,
    MaxResidual,
    Mondrian,
    OnlineRegressor,
    SplitRegressor,
    Window,
    flatten_state,
)

RNG = np.random.default_rng(0)
ROWS = 400
COVARIANCE = np.asarray([[1.0, 2.7, 0.0], [2.7, 9.0, 0.0], [0.0, 0.0, 0.25]])
PREDICTIONS = RNG.normal(size=(ROWS, 3))
TARGETS = PREDICTIONS + RNG.multivariate_normal(np.zeros(3), COVARIANCE, size=ROWS)
SCORES = {"max": MaxResidual((1.0, 3.0, 0.5)), "ellipsoid": EllipsoidResidual(COVARIANCE)}


def definition(score, errors):
    if isinstance(score, MaxResidual):
        return np.abs(errors / np.asarray(score.scale)).max(-1)
    return np.sqrt(np.einsum("...i,ij,...j->...", errors, np.linalg.inv(COVARIANCE), errors))


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scores_are_their_definition(lib, name, dtype):
    score, close = SCORES[name], 1e-10 if dtype is np.float64 else 1e-4
    got = lib.back(score(lib(PREDICTIONS, dtype), lib(TARGETS, dtype)))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, definition(score, TARGETS - PREDICTIONS), rtol=close, atol=close)
    assert float(lib.back(score(lib(PREDICTIONS[0]), lib(TARGETS[0])))) == pytest.approx(got[0], rel=1e-4)


@pytest.mark.parametrize("name", SCORES)
def test_regions_are_issued_as_boxes(lib, name):
    score = SCORES[name]
    predictor = SplitRegressor(score, alpha=0.1)
    predictor.calibrate(lib(PREDICTIONS[:200]), lib(TARGETS[:200]))
    boxes = lib.back(predictor.predict(lib(PREDICTIONS[200:])))
    targets = TARGETS[200:]
    assert boxes.shape == (200, 3, 2)
    inside = ((boxes[..., 0] <= targets) & (targets <= boxes[..., 1])).all(-1)
    member = lib.back(predictor.p_values(lib(PREDICTIONS[200:]), lib(targets))) > 0.1
    assert abs(member.mean() - 0.9) < 0.07
    if name == "max":
        np.testing.assert_array_equal(inside, member)
        return
    assert inside[member].all()  # the box contains the ellipsoid
    qhat, angles = float(predictor.qhat), np.linspace(0, 2 * math.pi, 1000)
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(1000)], -1) * qhat
    surface = PREDICTIONS[200] + circle @ np.linalg.cholesky(COVARIANCE).T
    assert surface[:, 0].max() == pytest.approx(boxes[0, 0, 1], rel=1e-4)  # and touches it


@pytest.mark.parametrize("name", SCORES)
def test_regions_are_nested_and_infinite_without_rows(name):
    boxes = []
    for alpha in (0.05, 0.2, 0.5):
        predictor = SplitRegressor(SCORES[name], alpha=alpha)
        predictor.calibrate(PREDICTIONS, TARGETS)
        boxes.append(predictor.predict(PREDICTIONS[0]))
    assert (np.diff([box[:, 1] - box[:, 0] for box in boxes], axis=0) <= 0).all()
    with pytest.warns(UserWarning, match="too few"):
        assert np.isinf(SplitRegressor(SCORES[name], alpha=0.1).predict(PREDICTIONS)).all()


def test_correlated_errors_have_a_smaller_ellipsoid():
    boxes, ellipsoids = (SplitRegressor(score, alpha=0.1) for score in SCORES.values())
    for predictor in (boxes, ellipsoids):
        predictor.calibrate(PREDICTIONS, TARGETS)
    volume = 4 / 3 * math.pi * float(ellipsoids.qhat) ** 3 * math.sqrt(np.linalg.det(COVARIANCE))
    assert volume < 0.7 * np.prod(2 * float(boxes.qhat) * np.asarray([1.0, 3.0, 0.5]))


@pytest.mark.parametrize("name", SCORES)
def test_streams_and_groups_take_several_outputs(name):
    one, many = (Mondrian(OnlineRegressor(SCORES[name], level=ACI(alpha=0.1), memory=Window(50))) for _ in range(2))
    groups = ["a", "b"] * (ROWS // 2)
    many.calibrate(PREDICTIONS[:200], TARGETS[:200], groups=groups[:200])
    one.calibrate(PREDICTIONS[:200], TARGETS[:200], groups=groups[:200])
    many.predict(PREDICTIONS[200:], groups=groups[200:])
    many.update(PREDICTIONS[200:], TARGETS[200:], groups=groups[200:])
    for row in range(200, ROWS):
        one.predict(PREDICTIONS[row], groups=groups[row])
    for row in range(200, ROWS):
        one.update(PREDICTIONS[row], TARGETS[row], groups=groups[row])
    np.testing.assert_equal(flatten_state(one.state_dict()), flatten_state(many.state_dict()))
    assert one.predictors["a"].pending == 0


def test_fitted_scores_estimate_the_errors():
    np.testing.assert_allclose(MaxResidual.fit(PREDICTIONS, TARGETS).scale, (1.0, 3.0, 0.5), rtol=0.1)
    np.testing.assert_allclose(EllipsoidResidual.fit(PREDICTIONS, TARGETS).covariance, COVARIANCE, atol=0.9)
    few = EllipsoidResidual.fit(PREDICTIONS[:2], TARGETS[:2])  # a singular covariance is shrunk
    assert math.isfinite(few(PREDICTIONS[5], TARGETS[5]))


@pytest.mark.parametrize("name", SCORES)
def test_reliability_is_the_part_of_the_volume_outside(name):
    score = SCORES[name]
    errors = definition(score, TARGETS - PREDICTIONS)
    got = score.reliability(PREDICTIONS, TARGETS, 2.0)
    np.testing.assert_allclose(got, np.where(errors <= 2, 1 - (errors / 2) ** 3, 0), atol=1e-9)
    assert score.check_labels(TARGETS, PREDICTIONS).shape == (ROWS, 3)
    assert score.decide(PREDICTIONS).shape == (ROWS, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MaxResidual((1.0,)), r"scale must hold at least 2 positive finite numbers, got \(1\.0,\)"),
        (lambda: MaxResidual((1.0, 0.0)), "scale must hold at least 2 positive"),
        (lambda: EllipsoidResidual([[1.0, 2.0]]), r"covariance must have shape \(d, d\) with d >= 2, got \(1, 2\)"),
        (lambda: EllipsoidResidual([[1.0, 2.0], [2.0, 1.0]]), "covariance must be symmetric and positive definite"),
        (lambda: EllipsoidResidual([[1.0, 0.5], [0.1, 1.0]]), "covariance must be symmetric and positive definite"),
        (lambda: MaxResidual.fit(np.zeros((3, 2)), np.zeros(3)), r"targets must have shape \(3, 2\), got \(3,\)"),
        (lambda: MaxResidual.fit(np.zeros((0, 2)), np.zeros((0, 2))), "of at least one row"),
        (lambda: MaxResidual((1.0, 2.0))(np.zeros((3, 2)), np.zeros(3)), r"targets must broadcast to shape \(3, 2\)"),
        (lambda: MaxResidual((1.0, 2.0))(np.zeros((3, 3)), np.zeros((3, 3))), r"must have shape \(\.\.\., 2\)"),
    ],
)
def test_bad_use_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
