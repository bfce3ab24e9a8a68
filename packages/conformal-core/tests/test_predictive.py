"""Predictive distributions against their definition, p-values and intervals."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformal_core import (
    CQR,
    AbsoluteResidual,
    AsymmetricRegressor,
    Exponential,
    Mondrian,
    NormalizedResidual,
    PredictiveSystem,
    SplitRegressor,
    Window,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")
eighths = st.integers(-40, 40).map(lambda i: i / 8)
RNG = np.random.default_rng(0)
PREDICTIONS, TARGETS = RNG.normal(size=60), RNG.normal(size=60)


def calibrated(residuals, score=AbsoluteResidual()):  # noqa: B008  (frozen)
    system = PredictiveSystem(score)
    if len(residuals):
        system.calibrate(np.zeros(len(residuals)), np.asarray(residuals))
    return system


@given(st.lists(eighths, max_size=15), st.lists(eighths, min_size=1, max_size=5), st.sampled_from([0.0, 0.25, 1.0]))
def test_the_distribution_function_counts_residuals(residuals, values, u):
    got = calibrated(residuals).cdf(0.0, np.asarray(values), u=u)
    for value, p in zip(values, got.tolist(), strict=True):
        below, equal = sum(r < value for r in residuals), sum(r == value for r in residuals)
        assert p == pytest.approx(float((below + Fraction(u) * (equal + 1)) / (len(residuals) + 1)), rel=1e-15)
    if u == 1:
        np.testing.assert_array_equal(got, calibrated(residuals).cdf(0.0, np.asarray(values)))


@given(st.lists(eighths, max_size=20), st.sampled_from(["0.05", "0.1", "1/3", "0.5", "0.9"]))
def test_quantiles_are_residuals_of_exact_rank(residuals, q):
    system, ordered = calibrated(residuals), [-math.inf, *sorted(residuals), math.inf]
    place = Fraction(q) * (len(residuals) + 1)
    assert system.quantile(np.asarray([2.0]), q, lower=True).tolist() == [2.0 + ordered[math.floor(place)]]
    assert system.quantile(2.0, q) == 2.0 + ordered[math.ceil(place)]


def test_quantiles_and_intervals_are_those_of_one_sided_regressors(lib):
    predictions = np.stack([PREDICTIONS, RNG.gamma(2.0, size=60)], -1)
    system = PredictiveSystem(NormalizedResidual())
    system.calibrate(lib(predictions[:40]), lib(TARGETS[:40]))
    system.update(lib(predictions[40:]), lib(TARGETS[40:]))
    for alpha in ("0.1", "0.3"):
        tails = AsymmetricRegressor(
            *(SplitRegressor(NormalizedResidual(side=side), alpha=Fraction(alpha) / 2) for side in ("lower", "upper"))
        )
        tails.calibrate(lib(predictions), lib(TARGETS))
        got = lib.back(system.predict(lib(predictions), alpha=alpha))
        np.testing.assert_array_equal(got, lib.back(tails.predict(lib(predictions))))
        p = lib.back(system.cdf(lib(predictions), lib(TARGETS)))
        np.testing.assert_array_equal(p, lib.back(tails.lower.p_values(lib(predictions), lib(TARGETS))))


def test_levels_are_nested_and_the_function_rises():
    system = calibrated(TARGETS)
    quantiles = [float(system.quantile(0.0, q)) for q in np.linspace(0.02, 0.98, 30)]
    assert quantiles == sorted(quantiles)
    curve = system.cdf(np.asarray([[0.0], [1.0]]), np.linspace(-3, 3, 50))
    assert curve.shape == (2, 50)
    assert (np.diff(curve) >= 0).all()
    wide, narrow = system.predict(0.0, alpha=0.1), system.predict(0.0, alpha=0.5)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


@pytest.mark.parametrize("memory", [None, Window(30), Exponential(0.9)], ids=repr)
def test_a_stream_is_its_rows_and_goes_on_where_it_was_saved(memory):
    one, many = (PredictiveSystem(AbsoluteResidual(), memory=memory).__sklearn_clone__() for _ in range(2))
    many.calibrate(PREDICTIONS[:20], TARGETS[:20])
    many.update(PREDICTIONS[20:], TARGETS[20:])
    one.calibrate(PREDICTIONS[:20], TARGETS[:20])
    for row in range(20, 60):
        one.update(PREDICTIONS[row], TARGETS[row])
    np.testing.assert_equal(one.state_dict(), many.state_dict())
    fresh = many.__sklearn_clone__()
    fresh.load_state_dict(many.state_dict())
    np.testing.assert_array_equal(fresh.predict(PREDICTIONS, alpha=0.2), many.predict(PREDICTIONS, alpha=0.2))
    assert len(fresh.memory) == len(many.memory)


def test_each_group_has_a_distribution():
    groups = ["a"] * 40 + ["b"] * 20
    systems = Mondrian(PredictiveSystem(AbsoluteResidual()))
    systems.calibrate(PREDICTIONS, TARGETS, groups=groups)
    own = PredictiveSystem(AbsoluteResidual())
    own.calibrate(PREDICTIONS[40:], TARGETS[40:])
    got = systems.predict(PREDICTIONS, groups=groups, alpha=0.2)
    np.testing.assert_array_equal(got[40:], own.predict(PREDICTIONS[40:], alpha=0.2))
    assert systems.predictors["b"].quantile(0.0, 0.5) == own.quantile(0.0, 0.5)


def test_an_infinite_quantile_warns_once():
    system = calibrated([1.0, 2.0])
    with pytest.warns(UserWarning, match=r"2 calibration scores are too few .* the quantile is infinite") as warned:
        assert system.quantile(0.0, 0.9) == system.quantile(0.0, 0.9) == math.inf
    assert len(warned) == 1


def test_bad_arguments_are_refused_and_change_nothing():
    system = calibrated(TARGETS)
    before = system.state_dict()
    for step in (system.calibrate, system.update):
        with pytest.raises(ValueError, match="targets must be finite"):
            step(np.zeros(2), np.asarray([1.0, np.nan]))
    with pytest.raises(ValueError, match="state "):
        system.load_state_dict(before | {"mirror": {}})
    np.testing.assert_equal(system.state_dict(), before)
    with pytest.raises(ValueError, match=r"targets must broadcast with the shape \(2,\) of predictions, got \(3,\)"):
        system.cdf(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"q must lie in \(0, 1\), got 1"):
        system.quantile(0.0, 1)
    with pytest.raises(TypeError, match="score must be an AbsoluteResidual or NormalizedResidual, got CQR"):
        PredictiveSystem(CQR())
    with pytest.raises(TypeError, match="memory must have the methods of Memory, got list"):
        PredictiveSystem(AbsoluteResidual(), memory=[])
