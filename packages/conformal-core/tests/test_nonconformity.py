"""What all scores share: outputs and labels checked, decisions, probabilities, and reliability."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from conformal_core import APS, CQR, LAC, AbsoluteResidual, NormalizedResidual, RegressionScore, rank_reliability
from odds import Odds

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(6, 4))
LABELS = np.asarray([0, 1, 2, 3, 0, 1])


@dataclass(frozen=True)
class RelativeError(RegressionScore):
    """The same of a regression score."""

    def compute(self, predictions, targets):
        return abs(targets - predictions) / abs(predictions)

    def bounds(self, predictions, qhat):
        return predictions - qhat * abs(predictions), predictions + qhat * abs(predictions)

    def point(self, predictions):
        return predictions


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_activation_of_logits_is_their_softmax_in_single_precision_or_better(lib, dtype):
    logits = np.asarray([[0.0, 1.0, 3.0], [-np.inf, 200.0, 200.0]], dtype=dtype)
    if lib.name == "strict" and dtype is np.float16:
        pytest.skip("the standard has no half precision")
    probs = lib.back(LAC().activation(lib(logits)))
    assert probs.dtype == np.promote_types(dtype, np.float32)
    odds = np.exp(logits.astype(np.float64) - logits.astype(np.float64).max(-1, keepdims=True))
    np.testing.assert_allclose(probs, odds / odds.sum(-1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("score", [LAC(), APS(), Odds()], ids=repr)
@pytest.mark.parametrize("qhat", [0.5, 0.9, np.inf])
def test_reliability_of_a_label_is_that_of_its_rank(lib, score, qhat):
    probs = score.activation(lib(LOGITS))
    scores = score(probs)
    for kind in ("normalized", "reciprocal"):
        own, got = score.score_and_reliability(probs, lib(LABELS), qhat, kind=kind)
        assert lib.back(own).tolist() == np.take_along_axis(lib.back(scores), LABELS[:, None], -1)[:, 0].tolist()
        wanted = rank_reliability(scores, lib(LABELS), qhat, kind=kind)
        for result in (got, score.reliability(probs, lib(LABELS), qhat, kind=kind)):
            assert lib.back(result).tolist() == lib.back(wanted).tolist()
    got = score.reliability(probs, lib(LABELS), qhat, kind="probability")
    assert lib.back(got).tolist() == np.take_along_axis(lib.back(probs), LABELS[:, None], -1)[:, 0].tolist()


def test_labels_and_thresholds_broadcast(lib):
    probs = LAC().activation(lib(np.stack([LOGITS, -LOGITS])))
    qhat = lib(np.asarray([[0.9], [0.6]]))
    got = lib.back(LAC().reliability(probs, lib(LABELS), qhat))
    for part, threshold, wanted in zip((LOGITS, -LOGITS), (0.9, 0.6), got, strict=True):
        alone = LAC().reliability(LAC().activation(lib(part)), lib(LABELS), threshold)
        np.testing.assert_allclose(wanted, lib.back(alone))


def test_the_decision_is_the_first_of_the_largest_logits_or_the_point(lib):
    assert lib.back(LAC().decide(lib([[0.0, 2.0, 2.0], [1.0, -1.0, 0.0]]))).tolist() == [1, 0]
    assert lib.back(LAC().decide(lib([0.0, 2.0]))).tolist() == 1
    assert lib.back(AbsoluteResidual().decide(lib([1.5, 2.0]))).tolist() == [1.5, 2.0]
    assert lib.back(NormalizedResidual().decide(lib([[1.5, 2.0]]))).tolist() == [1.5]
    assert lib.back(CQR().decide(lib([[1.0, 2.0]]))).tolist() == [1.5]
    assert lib.back(RelativeError().decide(lib([1.5]))).tolist() == [1.5]


def test_targets_are_converted_to_the_dtype_of_the_predictions(lib):
    predictions, targets = lib([1.0, 2.0], dtype=np.float32), lib([1.1, 2.0])
    own, reliability = AbsoluteResidual().score_and_reliability(predictions, targets, 0.5)
    assert lib.back(own).dtype == lib.back(reliability).dtype == np.float32


@pytest.mark.parametrize(
    ("score", "shape", "rows", "kept"),
    [
        (LAC(), (6, 4), 6, (6, 4)),
        (LAC(), (6, 4), None, (6, 4)),
        (Odds(), (6, 1), 6, (6, 1)),
        (AbsoluteResidual(), (6,), 6, (6,)),
        (AbsoluteResidual(), (6, 1), 6, (6,)),
        (AbsoluteResidual(), (6, 1), None, (6,)),
        (RelativeError(), (1,), None, (1,)),
        (CQR(), (6, 2), 6, (6, 2)),
    ],
)
def test_outputs_that_fit(lib, score, shape, rows, kept):
    assert tuple(score.check_output("output", lib(np.zeros(shape)), rows).shape) == kept


@pytest.mark.parametrize(
    ("score", "shape", "rows", "message"),
    [
        (LAC(), (6,), None, r"output must have shape \(B, K\), got \(6,\)"),
        (LAC(), (5, 4), 6, r"output must have shape \(6, K\), got \(5, 4\)"),
        (LAC(), (6, 0), 6, r"with K >= 1, got \(6, 0\)"),
        (AbsoluteResidual(), (5,), 6, r"output must have shape \(6,\) or \(6, 1\), got \(5,\)"),
        (AbsoluteResidual(), (6, 2), 6, r"output must have shape \(6,\) or \(6, 1\), got \(6, 2\)"),
        (AbsoluteResidual(), (), None, r"output must have shape \(B,\) or \(B, 1\), got \(\)"),
        (CQR(), (6,), None, r"output must have shape \(B, 2\), got \(6,\)"),
    ],
)
def test_outputs_that_do_not_fit(lib, score, shape, rows, message):
    with pytest.raises(ValueError, match=message):
        score.check_output("output", lib(np.zeros(shape)), rows)


def test_outputs_and_labels_of_another_kind(lib):
    for score in (LAC(), AbsoluteResidual()):
        with pytest.raises(TypeError, match="output must be of a floating dtype, got"):
            score.check_output("output", lib(np.zeros((6, 1), dtype=np.int64)))
        with pytest.raises(TypeError, match=r"output must be an array .* got NoneType"):
            score.check_output("output", None)
    with pytest.raises(TypeError, match="labels must be of an integer dtype, got"):
        LAC().check_labels(lib(np.zeros(6)), lib(LOGITS))
    with pytest.raises(TypeError, match="labels must be of a floating dtype, got"):
        AbsoluteResidual().check_labels(lib(LABELS), lib(np.zeros(6)))
    if lib.name.startswith("torch"):
        with pytest.raises(TypeError, match="output must come from the same array library as labels"):
            LAC().check_labels(LABELS, lib(LOGITS))


def test_labels_are_one_a_row_and_in_range(lib):
    assert lib.back(LAC().check_labels(lib(LABELS, dtype=np.int32), lib(LOGITS))).dtype == np.int64
    assert lib.back(CQR().check_labels(lib([1.0]), lib([[1.0, 2.0]]))).tolist() == [1.0]
    for score, labels, output, message in (
        (LAC(), LABELS[:3], LOGITS, r"labels must have shape \(6,\), got \(3,\)"),
        (LAC(), np.where(LABELS == 2, 4, LABELS), LOGITS, r"labels must lie in 0\.\.3, got 4 at row 2"),
        (AbsoluteResidual(), np.zeros((2, 1)), np.zeros(2), r"labels must have shape \(2,\), got \(2, 1\)"),
        (AbsoluteResidual(), np.asarray([0.0, np.nan]), np.zeros(2), "labels must be finite, got nan at index 1"),
    ):
        with pytest.raises(ValueError, match=message):
            score.check_labels(lib(labels), lib(output), check=lib.check)
    LAC().check_labels(lib(LABELS + 9), lib(LOGITS), check=False)


@pytest.mark.parametrize(
    ("score", "kind", "message"),
    [
        (LAC(), "rank", "one of 'normalized', 'reciprocal', 'probability' with LAC, got 'rank'"),
        (CQR(), "reciprocal", "one of 'normalized' with CQR, got 'reciprocal'"),
    ],
)
def test_a_kind_that_the_score_does_not_have(score, kind, message):
    with pytest.raises(ValueError, match=re.escape(f"kind must be {message}")):
        score.reliability(np.asarray([[0.5, 0.5]]), np.asarray([0]), 0.5, kind=kind)
    with pytest.raises(ValueError, match=re.escape(f"reliability must be {message}")):
        score.check_kind(kind, "reliability")
