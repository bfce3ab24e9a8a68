"""Metrics, compared with scikit-learn and with figures computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpsc_train.evaluation import Outcome, Predictions, metrics

try:
    from sklearn import metrics as sklearn
except ImportError:
    sklearn = None
compared = pytest.mark.skipif(sklearn is None, reason="scikit-learn is the oracle")


@st.composite
def cases(draw):
    """Random probabilities, often with ties, and labels that may leave classes out."""
    rows, classes, seed = draw(st.integers(1, 40)), draw(st.integers(2, 6)), draw(st.integers(0, 10**6))
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.ones(classes), rows)
    if draw(st.booleans()):
        p = np.round(p * 4) + 0.5
        p /= p.sum(-1, keepdims=True)
    return p, generator.integers(0, draw(st.integers(1, classes)), rows)


@compared
@given(cases())
def test_f1_and_accuracy(case):
    p, labels = case
    predicted = p.argmax(-1)
    assert metrics.accuracy(predicted, labels) == pytest.approx(sklearn.accuracy_score(labels, p.argmax(-1)))
    expected = sklearn.f1_score(labels, p.argmax(-1), average="macro", zero_division=0)
    assert metrics.macro_f1(predicted, labels) == pytest.approx(expected)
    counts = sklearn.confusion_matrix(labels, p.argmax(-1), labels=range(p.shape[1]))
    np.testing.assert_array_equal(metrics.confusion_matrix(predicted, labels, p.shape[1]), counts)


@compared
@given(cases())
def test_mean_average_precision(case):
    p, labels = case
    expected = np.mean([sklearn.average_precision_score(labels == c, p[:, c]) for c in np.unique(labels)])
    assert Predictions(labels, {"fused": p}).mean_average_precision("fused") == pytest.approx(expected)


@given(cases())
def test_calibration_error_by_a_loop_over_bins(case):
    p, labels = case
    confidence, right = p.max(-1), p.argmax(-1) == labels
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.expected_calibration_error(confidence, right) == pytest.approx(expected, abs=1e-9)


@compared
@given(cases())
def test_likelihood(case):
    p, labels = case
    expected = sklearn.log_loss(labels, p, labels=range(p.shape[1]))
    assert metrics.negative_log_likelihood(Outcome.of(p, labels).true) == pytest.approx(expected, rel=1e-6)


def test_certainty_costs_nothing():
    assert str(metrics.negative_log_likelihood(np.array([1.0]))) == "0.0"


def test_a_probability_of_zero_is_not_infinite():
    assert np.isfinite(metrics.negative_log_likelihood(np.array([0.0])))
