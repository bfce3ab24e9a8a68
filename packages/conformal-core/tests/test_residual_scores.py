"""Scores of regression: their intervals, how deep a target lies in one, and what is refused."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from conformal_core import CQR, AbsoluteResidual, NormalizedResidual, rank_reliability

numbers = st.integers(-64, 64).map(lambda i: i / 8)


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=6), numbers.map(abs))
def test_regression_scores_and_intervals_agree(lib, triples, qhat):
    """y lies in the interval exactly when its score is at most q̂; eighths make the arithmetic exact."""
    a, b, y = (np.asarray(column) for column in zip(*triples, strict=True))
    spread = np.full(len(a), 0.5)
    for score, predictions in (
        (AbsoluteResidual(), a),
        (NormalizedResidual(), np.stack([a, spread], -1)),
        (CQR(), np.stack([a, b], -1)),
    ):
        own = lib.back(score(lib(predictions), lib(y)))
        for threshold in (qhat, -qhat):
            ends = lib.back(score.interval(lib(predictions), threshold))
            assert ends.shape == (len(a), 2)
            assert ((ends[:, 0] <= y) & (y <= ends[:, 1])).tolist() == (own <= threshold).tolist()
        assert np.isinf(lib.back(score.interval(lib(predictions), math.inf))).all()
    assert lib.back(AbsoluteResidual()(lib(a), lib(y))).tolist() == [
        float(abs(Fraction(p) - Fraction(t))) for p, t in zip(a, y, strict=True)
    ]
    wanted = [
        float(max(Fraction(lo) - Fraction(t), Fraction(t) - Fraction(hi))) for lo, hi, t in zip(a, b, y, strict=True)
    ]
    assert lib.back(CQR()(lib(np.stack([a, b], -1)), lib(y))).tolist() == wanted


@pytest.mark.parametrize(
    ("score", "predictions", "targets", "message"),
    [
        (AbsoluteResidual(), [math.nan], [1.0], "predictions must be finite"),
        (AbsoluteResidual(), [1.0], [math.inf], "targets must be finite"),
        (AbsoluteResidual(), [1.0], [1.0, 2.0], r"targets must broadcast to shape \(1,\), got \(2,\)"),
        (CQR(), [1.0], [1.0], r"predictions must have shape \(\.\.\., 2\), got \(1,\)"),
        (NormalizedResidual(), [[1.0, 0.0]], [1.0], r"the size of the error, must be positive, got 0\.0"),
    ],
)
def test_bad_predictions_are_refused(score, predictions, targets, message):
    with pytest.raises(ValueError, match=message):
        score(np.asarray(predictions), np.asarray(targets))


@pytest.mark.parametrize("name", ["absolute", "normalized", "cqr"])
@given(
    st.floats(-5, 5),
    st.floats(0.1, 3),
    st.floats(-0.2, 3),
    st.floats(-1, 2),
)
def test_reliability_of_a_target_is_the_limit_of_its_rank_among_ever_finer_labels(lib, name, centre, spread, qhat, at):
    score, prediction = {
        "absolute": (AbsoluteResidual(), np.asarray([centre])),
        "normalized": (NormalizedResidual(), np.asarray([[centre, spread]])),
        "cqr": (CQR(), np.asarray([[centre - spread, centre + spread / 2]])),
    }[name]
    low, high = lib.back(score.interval(lib(prediction), qhat))[0]
    labels = 20_001
    target = (low + high) / 2 + at * (high - low) / 2  # inside for at in (-1, 1)
    got = float(lib.back(score.reliability(lib(prediction), lib(np.asarray([target])), qhat))[0])
    if low > high:
        assert got == 0
        return
    assume(high - low > 0.01)
    width = high - low
    grid = np.linspace(low - width / 4, high + width / 4, labels)
    nearest = int(np.abs(grid - target).argmin())
    if abs(grid[nearest] - target) > width / labels * 2:  # farther out than the labels reach
        assert got == 0
        return
    scores = score(np.broadcast_to(prediction, (labels, *prediction.shape[1:])), grid)
    wanted = float(rank_reliability(scores[None], np.asarray([nearest]), qhat)[0])
    assert got == pytest.approx(wanted, abs=1e-3)


def test_reliability_of_known_targets(lib):
    y = np.asarray([1.0, 1.25, 1.5, 2.0])
    one = lib(np.ones(4))
    assert lib.back(AbsoluteResidual().reliability(one, lib(y), 0.5)).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert lib.back(AbsoluteResidual().reliability(one, lib(y), math.inf)).tolist() == [1.0] * 4
    assert lib.back(AbsoluteResidual().reliability(one, lib(y), 0.0)).tolist() == [1.0, 0.0, 0.0, 0.0]  # one point
    pair = lib(np.asarray([[0.5, 1.5]] * 4))
    assert lib.back(CQR().reliability(pair, lib(y), -0.25)).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert lib.back(CQR().reliability(pair, lib(y), -0.75)).tolist() == [0.0] * 4  # empty
    scaled = lib(np.asarray([[1.0, 0.5]] * 4))
    assert lib.back(NormalizedResidual().reliability(scaled, lib(y), 1.0)).tolist() == [1.0, 0.5, 0.0, 0.0]


def test_reliability_of_a_single_number(lib):
    got = AbsoluteResidual().reliability(lib(np.asarray(1.0)), lib(np.asarray(1.25)), 0.5)
    assert float(lib.back(got)) == 0.5


def test_the_point_of_a_prediction_has_the_smallest_score(lib):
    for score, row in ((AbsoluteResidual(), 2.0), (NormalizedResidual(), [2.0, 0.5]), (CQR(), [1.0, 4.0])):
        prediction = lib(np.asarray([row]))
        point = score.point(prediction)
        least = float(lib.back(score(prediction, point))[0])
        for apart in (-0.5, 0.5):
            assert float(lib.back(score(prediction, point + apart))[0]) > least


def test_reliability_refuses_what_a_score_refuses(lib):
    with pytest.raises(ValueError, match="qhat"):
        AbsoluteResidual().reliability(lib(np.ones(2)), lib(np.ones(2)), math.nan)
    with pytest.raises(ValueError, match=r"targets must broadcast"):
        AbsoluteResidual().reliability(lib(np.ones(2)), lib(np.ones(3)), 1.0)


def test_predictions_with_a_gradient_are_scored_without_a_warning():
    torch = pytest.importorskip("torch")
    said = torch.ones(3, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AbsoluteResidual()(said, torch.zeros(3)).sum().backward()
    assert said.grad.tolist() == [1.0] * 3
