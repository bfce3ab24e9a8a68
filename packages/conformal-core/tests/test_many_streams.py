"""Many streams at once issue the sets of a loop over single predictors, bit for bit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformal_core import (
    ACI,
    APS,
    CQR,
    LAC,
    AbsoluteResidual,
    Constant,
    DtACI,
    MaxResidual,
    NormalizedResidual,
    OnlineClassifier,
    OnlineRegressor,
    Streams,
    Window,
)
from conformal_core.memory._windows import Windows

LEVELS = {
    "constant": lambda: Constant(alpha=0.2),
    "aci": lambda: ACI(alpha=0.2, gamma=0.01),
    "wild aci": lambda: ACI(alpha="1/3", gamma=0.9),
}
SCORES = {"lac": LAC(), "aps": APS(), "residual": AbsoluteResidual(), "normalized": NormalizedResidual(), "cqr": CQR()}
SCORES |= {"upper": AbsoluteResidual(side="upper"), "joint": MaxResidual((1.0, 2.0))}
pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


def one(score, level, size=20):
    kind = OnlineClassifier if hasattr(score, "sets") else OnlineRegressor
    return kind(score, memory=Window(size), level=level)


def stream(score, steps, streams, seed=0):
    """Rows, labels of which a fifth is missing, and what stands for a missing one; scores have ties."""
    rng = np.random.default_rng(seed)
    missing = rng.random((steps, streams)) < 0.2
    if hasattr(score, "sets"):
        probs = rng.dirichlet(np.ones(4), (steps, streams)).round(2)
        return probs / probs.sum(-1, keepdims=True), np.where(missing, -1, rng.integers(0, 4, (steps, streams))), -1
    targets = np.where(missing, np.nan, rng.normal(size=(steps, streams)).round(1))
    if isinstance(score, MaxResidual):
        return rng.normal(size=(steps, streams, 2)), np.stack([targets, targets[::-1]], axis=-1), np.nan
    rows = rng.gamma(2, size=(steps, streams, score.columns)).round(1) + [0, 0.1][: score.columns]
    return rows[..., 0] if score.columns == 1 else rows, targets, np.nan


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_the_sets_are_those_of_a_loop(score, level):
    rows, labels, missing = stream(score, 120, 7)
    many, each = Streams(one(score, level()), 7), [one(score, level()) for _ in range(7)]
    for t in range(120):
        sets = many.predict(rows[t])
        for i, single in enumerate(each):
            np.testing.assert_array_equal(sets[i], single.predict(rows[t, i], ids=t))
            if np.all(labels[t, i] != missing) and not np.isnan(labels[t, i]).any():
                single.update(rows[t, i], labels[t, i], ids=t)
        many.update(rows[t], labels[t])
        assert many.qhat.tolist() == [float(single.qhat) for single in each]


@pytest.mark.parametrize("score", [LAC(), CQR()])
def test_calibration_is_that_of_a_loop(score):
    rows, labels, missing = stream(score, 40, 5)
    many = Streams(one(score, ACI(alpha=0.2)), 5)
    many.update(rows[0], labels[1])  # forgotten
    many.calibrate(rows, labels)
    for i in range(5):
        single, here = one(score, ACI(alpha=0.2)), ~(np.isnan(labels[:, i]) | (labels[:, i] == missing))
        single.calibrate(rows[here, i], labels[here, i])
        assert float(single.qhat) == many.qhat[i]


def test_late_labels_are_compared_with_what_was_issued():
    rows, labels, _ = stream(AbsoluteResidual(), 60, 3)
    labels = np.nan_to_num(labels)
    many, each = (
        Streams(one(AbsoluteResidual(), ACI(alpha=0.2, gamma=0.1)), 3),
        [one(AbsoluteResidual(), ACI(alpha=0.2, gamma=0.1)) for _ in range(3)],
    )
    for t in range(60):
        many.predict(rows[t], ids=t)
        for i, single in enumerate(each):
            single.predict(rows[t, i], ids=t)
        if t >= 4 and t % 5:
            many.update(rows[t - 4], labels[t - 4], ids=t - 4)
        elif t >= 4:
            many.forget(t - 4)
        for i, single in enumerate(each if t >= 4 else ()):
            single.update(rows[t - 4, i], labels[t - 4, i], ids=t - 4) if t % 5 else single.forget(t - 4)
    assert many.qhat.tolist() == [float(single.qhat) for single in each]
    for call in (lambda: many.update(rows[0], labels[0], ids=0), lambda: many.forget("monday")):
        with pytest.raises(ValueError, match="ids must be that of a predicted step that still waits for labels, got"):
            call()
    with pytest.raises(ValueError, match="ids must name predicted rows that still wait for a label, got 0"):
        each[0].forget([0])


@given(st.data())
def test_a_window_has_every_order_statistic(data):
    size, width = data.draw(st.integers(1, 30)), data.draw(st.integers(2, 12))
    windows, past = Windows(3, size, width), [[], [], []]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    alphas, values = rng.integers(-1, 12, 3), data.draw(st.sampled_from([2, 5, 1000]))  # of which few make many ties
    for step in range(data.draw(st.integers(1, 120))):
        streams, alphas = np.flatnonzero(rng.random(3) < 0.8), rng.integers(-1, 12, 3)
        scores = rng.integers(0, values, len(streams)) / values
        windows.add(scores, streams)
        for i, score in zip(streams, scores.tolist(), strict=True):
            past[i] = [*past[i], score][-size:]
        if step % 3:
            want = []
            for alpha, scores in zip(alphas.tolist(), map(sorted, past), strict=True):
                k = len(scores) + 1 - (len(scores) + 1) * alpha // 10
                want.append(math.inf if k > len(scores) else -math.inf if k < 1 else scores[k - 1])
            assert windows.quantile(alphas, 10).tolist() == want


def test_arrays_of_every_library_are_rows(lib):
    many = Streams(one(LAC(), ACI(alpha=0.5)), 2)
    probs = lib(np.asarray([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32))
    for _ in range(3):
        many.update(probs, lib(np.asarray([0, -1])))
    assert many.predict(probs).tolist() == [[True, False], [True, True]]


def test_a_stream_with_too_few_scores_is_named_once():
    many = Streams(one(AbsoluteResidual(), Constant(alpha=0.2)), 2)
    many.calibrate(np.zeros((5, 2)), np.asarray([[1.0, np.nan]] * 5))
    with pytest.warns(UserWarning, match=r"0 calibration scores are too few .* sets of such a stream are full"):
        assert many.predict([0.0, 0.0]).tolist() == [[-1, 1], [-np.inf, np.inf]]
    many.predict([0.0, 0.0])  # a second warning would be an error


def test_just_enough_scores_need_no_warning():
    many = Streams(one(AbsoluteResidual(), Constant(alpha=0.2)), 2)
    many.calibrate(np.zeros((4, 2)), np.ones((4, 2)))  # rank 4 of 4; a warning would be an error
    assert many.predict([0.0, 0.0]).tolist() == [[-1, 1], [-1, 1]]


def test_the_oldest_steps_are_dropped_beyond_the_limit():
    settings = OnlineRegressor(AbsoluteResidual(), memory=Window(5), level=ACI(alpha=0.2), max_pending=2)
    many = Streams(settings, 2)
    for step in range(4):
        many.predict([0.0, 0.0], ids=step)
    with pytest.raises(ValueError, match="ids must be that of a predicted step that still waits for labels, got 1"):
        many.update([0.0, 0.0], [1.0, 1.0], ids=1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda s: s(AbsoluteResidual(), 2),
            TypeError,
            "predictor must be an OnlineClassifier or",
        ),
        (lambda s: s(OnlineRegressor(CQR(), alpha=0.1), 2), TypeError, "must have memory Window, .* got .*History"),
        (lambda s: s(one(CQR(), DtACI(alpha=0.1)), 2), TypeError, "level Constant or ACI, .* got .*DtACI"),
        (lambda s: s(one(APS(randomized=True), ACI(alpha=0.1)), 2), TypeError, "score that is not randomized, got"),
        (lambda s: s(one(CQR(), Constant(alpha=0.1)), 0), ValueError, "streams must be at least 1, got 0"),
        (lambda s: s(one(CQR(), ACI(alpha="1/99999999999")), 2), ValueError, "alpha and gamma must have fewer digits"),
        (
            lambda s: s(one(LAC(), ACI(alpha=0.1)), 2).predict([[0.5, 0.5]]),
            ValueError,
            r"rows must have shape \(2, .* got \(1, 2\)",
        ),
        (lambda s: s(one(LAC(), ACI(alpha=0.1)), 1).predict([[0.5, 0.6]]), ValueError, "probs must sum to 1"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(Streams)


@pytest.mark.parametrize("labels", [[1.0], [1.0, math.inf], ["a", "b"], [[1.0, 2.0]]])
def test_bad_labels_change_nothing(labels):
    many = Streams(one(AbsoluteResidual(), ACI(alpha=0.2)), 2)
    many.calibrate(np.zeros((9, 2)), np.ones((9, 2)))
    many.predict([0.0, 0.0])
    before = many.state_dict()
    with pytest.raises((TypeError, ValueError), match=r"(targets|labels) must"):
        many.update([0.0, 0.0], labels)
    with pytest.raises((TypeError, ValueError), match=r"(targets|labels) must"):
        many.calibrate([[0.0, 0.0]], [labels])
    np.testing.assert_equal(many.state_dict(), before)


def test_a_state_is_a_copy():
    rows, labels, _ = stream(AbsoluteResidual(), 60, 3)
    many, again = (Streams(one(AbsoluteResidual(), ACI(alpha=0.2, gamma=0.1)), 3) for _ in range(2))
    many.calibrate(rows[:15], labels[:15])
    many.predict(rows[15], ids="late")
    state, thresholds = many.state_dict(), []
    for streams in (many, again):
        streams.load_state_dict(state)
        for t in range(16, 60):
            streams.update(rows[t], labels[t])
        streams.update(rows[15], labels[15], ids="late")
        thresholds.append(streams.qhat.tolist())
    assert thresholds[0] == thresholds[1]


def test_classes_are_those_of_calibration():
    many = Streams(one(LAC(), ACI(alpha=0.2)), 2)
    many.calibrate(np.full((9, 2, 2), 0.5), np.zeros((9, 2), dtype=int))
    with pytest.raises(ValueError, match="probs must have the 2 classes of calibration, got 4"):
        many.predict(np.full((2, 4), 0.25))
