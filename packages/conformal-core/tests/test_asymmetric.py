"""Intervals with one open side, and those whose ends have thresholds of their own."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
from conformal_core import (
    ACI,
    CQR,
    LAC,
    AbsoluteResidual,
    AsymmetricRegressor,
    ConformalPID,
    NormalizedResidual,
    OnlineRegressor,
    SplitClassifier,
    SplitRegressor,
    Streams,
    Window,
)

eighths = st.integers(-64, 64).map(lambda i: i / 8)


def split(score=AbsoluteResidual, lower="0.1", upper="0.1"):
    return AsymmetricRegressor(
        SplitRegressor(score(side="lower"), alpha=lower), SplitRegressor(score(side="upper"), alpha=upper)
    )


def online():
    return AsymmetricRegressor(
        *(
            OnlineRegressor(AbsoluteResidual(side=side), memory=Window(30), level=ACI(alpha=0.1, gamma=0.05))
            for side in ("lower", "upper")
        )
    )


@given(st.lists(st.tuples(eighths, eighths, eighths), min_size=1, max_size=6), eighths)
def test_scores_of_one_side_agree_with_their_intervals(lib, triples, qhat):
    """y lies in the interval exactly when its score is at most q̂; eighths make the arithmetic exact."""
    a, b, y = (np.asarray(column) for column in zip(*triples, strict=True))
    for score, predictions, lower, upper in (
        (AbsoluteResidual, a, a - y, y - a),
        (NormalizedResidual, np.stack([a, np.full(len(a), 0.5)], -1), 2 * (a - y), 2 * (y - a)),
        (CQR, np.stack([a, b], -1), a - y, y - b),
    ):
        for side, wanted, open_end in (("lower", lower, 1), ("upper", upper, 0)):
            one = score(side=side)
            assert lib.back(one(lib(predictions), lib(y))).tolist() == wanted.tolist()
            for threshold in (qhat, math.inf, -math.inf):
                ends = lib.back(one.interval(lib(predictions), threshold))
                assert np.isinf(ends[:, open_end]).all()
                assert ((ends[:, 0] <= y) & (y <= ends[:, 1])).tolist() == (wanted <= threshold).tolist()


def test_a_single_number_has_one_open_end_too():
    assert AbsoluteResidual(side="lower").interval(2.0, 0.5).tolist() == [1.5, math.inf]
    assert AbsoluteResidual(side="upper").interval(np.asarray(2.0), -0.5).tolist() == [-math.inf, 1.5]


def test_an_open_interval_has_no_reliability():
    with pytest.raises(ValueError, match=r"side must be 'both' for reliabilities: .* got 'upper'"):
        AbsoluteResidual(side="upper").reliability(np.ones(1), np.ones(1), 1.0)
    with pytest.raises(ValueError, match="side must be one of 'both', 'lower', 'upper', got 'left'"):
        CQR(side="left")


@given(
    st.lists(eighths, max_size=12),
    st.sampled_from(["0.05", "0.1", "0.25", "0.5"]),
    st.sampled_from(["0.1", "1/3", "0.4"]),
)
@pytest.mark.filterwarnings("ignore:.*too few")
def test_each_tail_has_its_exact_rank(residuals, lower, upper):
    predictor = split(lower=lower, upper=upper)
    if residuals:
        predictor.calibrate(np.zeros(len(residuals)), np.asarray(residuals))

    def end(scores, alpha):
        k = math.ceil((len(scores) + 1) * (1 - Fraction(alpha)))
        return sorted(scores)[k - 1] if k <= len(scores) else math.inf

    low, high = -end([-r for r in residuals], lower), end(residuals, upper)
    assert predictor.predict(0.0).tolist() == [low, high]
    targets = np.asarray([*residuals, -9.0, 9.0])
    p = predictor.p_values(np.zeros(len(targets)), targets)
    inside = (p[:, 0] > float(Fraction(lower))) & (p[:, 1] > float(Fraction(upper)))
    assert inside.tolist() == ((low <= targets) & (targets <= high)).tolist()
    assert p[:, 1].tolist() == [float(reference.p_value(residuals, t)) for t in targets]


def test_intervals_are_nested_in_alpha(lib):
    rng = np.random.default_rng(0)
    targets, predictions = lib(rng.exponential(size=80)), lib(rng.normal(size=(80, 2)))
    last = np.tile([-math.inf, math.inf], (80, 1))
    for alpha in ("0.02", "0.05", "0.2", "0.49"):
        predictor = split(CQR, alpha, alpha)
        predictor.calibrate(predictions, targets, check=False)
        ends = lib.back(predictor.predict(predictions))
        assert (ends[:, 0] >= last[:, 0]).all()
        assert (ends[:, 1] <= last[:, 1]).all()
        last = ends
    assert lib.back(predictor.qhat).shape == (2,)


def test_a_skewed_error_needs_a_shorter_interval():
    rng = np.random.default_rng(0)
    targets = rng.exponential(size=4000)
    symmetric = SplitRegressor(AbsoluteResidual(), alpha=0.1)
    widths = []
    for predictor in (symmetric, split(lower="0.01", upper="0.09")):
        predictor.calibrate(np.ones(2000), targets[:2000])
        low, high = predictor.predict(1.0)
        assert ((low <= targets[2000:]) & (targets[2000:] <= high)).mean() == pytest.approx(0.9, abs=0.03)
        widths.append(high - low)
    assert widths[1] < 0.96 * widths[0]


def test_a_batch_is_its_rows_and_late_labels_find_their_threshold():
    rng = np.random.default_rng(1)
    predictions, targets = rng.normal(size=60), rng.normal(size=60)
    one, many = online(), online()
    for predictor in (one, many):
        predictor.calibrate(predictions[:20], targets[:20])
        predictor.predict(predictions[20:40], ids=range(20, 40))
    many.update(predictions[20:40], targets[20:40], ids=range(20, 40))
    for i in range(20, 40):
        one.update(predictions[i], targets[i], ids=i)
    np.testing.assert_equal(one.state_dict(), many.state_dict())
    assert one.lower.pending == one.upper.pending == 0
    np.testing.assert_array_equal(one.predict(predictions), many.predict(predictions))


def test_a_refused_step_changes_neither_end():
    predictor = AsymmetricRegressor(
        OnlineRegressor(CQR(side="lower"), alpha=0.1), OnlineRegressor(CQR(side="upper"), level=ConformalPID(alpha=0.1))
    )
    predictor.calibrate(np.zeros((20, 2)), np.arange(20.0))
    before = predictor.state_dict()
    huge = np.asarray([[0.0, -1.7e308]])  # only the upper score overflows
    for step in (predictor.calibrate, predictor.update):
        with np.errstate(over="ignore"), pytest.raises(ValueError, match="must be finite"):
            step(huge, np.asarray([1.7e308]))
        np.testing.assert_equal(predictor.state_dict(), before)
    with pytest.raises(ValueError, match="state "):
        predictor.load_state_dict(before | {"upper": before["lower"]})
    np.testing.assert_equal(predictor.state_dict(), before)


@pytest.mark.parametrize(
    ("lower", "upper", "kind", "message"),
    [
        (
            AbsoluteResidual(),
            AbsoluteResidual(side="upper"),
            ValueError,
            "lower must have a score of side 'lower', got",
        ),
        (CQR(side="lower"), AbsoluteResidual(side="upper"), ValueError, r"as many columns .* got 2 and 1"),
    ],
)
def test_other_pairs_are_refused(lower, upper, kind, message):
    with pytest.raises(kind, match=message):
        AsymmetricRegressor(SplitRegressor(lower, alpha=0.1), SplitRegressor(upper, alpha=0.1))
    with pytest.raises(TypeError, match=r"upper must be a SplitRegressor .* Streams, got SplitClassifier"):
        AsymmetricRegressor(
            SplitRegressor(AbsoluteResidual(side="lower"), alpha=0.1), SplitClassifier(LAC(), alpha=0.1)
        )


def test_many_streams_have_two_tails_too():
    one, many = online(), AsymmetricRegressor(*(Streams(end, 2) for end in (online().lower, online().upper)))
    rng = np.random.default_rng(2)
    predictions, targets = rng.normal(size=(40, 2)), rng.normal(size=(40, 2))
    many.calibrate(predictions, targets)
    one.calibrate(predictions[:, 0], targets[:, 0])
    np.testing.assert_array_equal(many.predict(predictions[0])[0], one.predict(predictions[0, 0]))
