import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conformal_core import LAC, Margin
from cpsc_gsc import collaborative_reliability, gsc_weights
from odds import Odds

Q = {"audio": torch.tensor(0.9, dtype=torch.float64)}


def by_hand(logits, fused, qhat, kind):
    """Equation and zero-based rank, one sample and one class at a time, in Python floats."""
    out = []
    for row, decision in zip(logits.tolist(), fused.tolist(), strict=True):
        total = sum(math.exp(z - max(row)) for z in row)
        scores = [1 - math.exp(z - max(row)) / total for z in row]
        y = decision.index(max(decision))
        rank = sum(s < scores[y] for s in scores)
        size = sum(s <= qhat for s in scores)
        value = 1 - rank / size if kind == "normalized" and size else 1 / (rank + 1)
        out.append(value if scores[y] <= qhat else 0.0)
    return torch.tensor(out, dtype=logits.dtype)


logit_rows = st.integers(2, 6).flatmap(
    lambda c: st.lists(
        st.tuples(*[st.lists(st.floats(-8, 8), min_size=c, max_size=c, unique=True)] * 2), min_size=1, max_size=7
    )
)


@given(logit_rows, st.floats(0.05, 1), st.sampled_from(["normalized", "reciprocal"]))
def test_equals_the_equation_taken_literally(rows, qhat, kind):
    logits, fused = (torch.tensor([r[i] for r in rows], dtype=torch.float64) for i in (0, 1))
    got = collaborative_reliability(
        {"m": logits}, fused_logits=fused, qhat={"m": torch.tensor(qhat, dtype=torch.float64)}, kind=kind
    )
    scores = 1 - logits.softmax(-1)
    if ((scores - qhat).abs() < 1e-12).any() or (scores.sort(-1).values.diff() < 1e-12).any():
        return  # a tie that the two ways of computing a softmax may break differently
    torch.testing.assert_close(got["m"], by_hand(logits, fused, qhat, kind))


@given(logit_rows)
def test_rows_are_independent_of_their_batch(rows):
    logits, fused = (torch.tensor([r[i] for r in rows], dtype=torch.float64) for i in (0, 1))
    whole = collaborative_reliability({"audio": logits}, fused_logits=fused, qhat=Q)["audio"]
    single = [
        collaborative_reliability({"audio": logits[i : i + 1]}, fused_logits=fused[i : i + 1], qhat=Q)["audio"]
        for i in range(len(rows))
    ]
    torch.testing.assert_close(whole, torch.cat(single))


@given(logit_rows)
def test_a_modality_that_agrees_is_reliable_whatever_its_margin(rows):
    logits = torch.tensor([r[0] for r in rows], dtype=torch.float64)
    rho = collaborative_reliability({"audio": logits}, fused_logits=logits, qhat={"audio": torch.tensor(torch.inf)})
    assert (rho["audio"] == 1).all()


def test_no_label_enters_and_no_gradient_leaves():
    logits = torch.randn(3, 4, requires_grad=True)
    fused = torch.randn(3, 4, requires_grad=True)
    rho = collaborative_reliability({"audio": logits}, fused_logits=fused, qhat=Q)["audio"]
    assert not rho.requires_grad
    assert not gsc_weights(rho.requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_half_precision_is_widened(dtype, expected):
    logits = torch.randn(3, 4).to(dtype)
    assert collaborative_reliability({"audio": logits}, fused_logits=logits, qhat=Q)["audio"].dtype == expected


def test_the_score_is_the_callers():
    logits, fused = {"audio": torch.tensor([[0.0, 0.1, 5.0]])}, torch.tensor([[1.0, 0.0, 0.0]])
    qhat = {"audio": torch.tensor(0.985)}  # the label has the score .993 by LAC, .979 by its margin
    assert collaborative_reliability(logits, fused_logits=fused, qhat=qhat, score=LAC())["audio"] == 0
    assert collaborative_reliability(logits, fused_logits=fused, qhat=qhat, score=Margin())["audio"] > 0


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0, 5), st.floats(0, 5))
def test_weights_lie_between_b_and_a_plus_b_and_grow_with_reliability(rho, a, b):
    rho = torch.tensor(rho, dtype=torch.float64).sort().values
    weights = gsc_weights(rho, a=a, b=b)
    assert (weights >= b).all()
    assert (weights <= a + b).all()
    assert (weights.diff() >= 0).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"unimodal_logits": {}}, ValueError, "at least one modality"),
        ({"unimodal_logits": torch.zeros(2, 3)}, TypeError, "must map each modality"),
        ({"unimodal_logits": {"audio": torch.zeros(2, 3, 1)}}, ValueError, r"shape \(B, K\), got \(2, 3, 1\)"),
        (
            {"unimodal_logits": {"audio": torch.zeros(0, 3)}},
            ValueError,
            r"at least one sample, got shape \(0, 3\)",
        ),
        (
            {"unimodal_logits": {"audio": torch.zeros(2, 3, dtype=torch.int64)}},
            TypeError,
            "must be of a floating",
        ),
        (
            {"unimodal_logits": {"audio": torch.zeros(2, 3), "image": torch.zeros(2, 4)}},
            ValueError,
            r"unimodal_logits\['image'\] must have the shape \(2, 3\).*got \(2, 4\)",
        ),
        ({"fused_logits": torch.zeros(2, 4)}, ValueError, r"fused_logits must have shape \(2, 3\), got \(2, 4\)"),
        (
            {"fused_logits": None},
            TypeError,
            "fused_logits must be an array .*got NoneType",
        ),
        ({"qhat": None}, TypeError, "calibrate before the first weighted step.*got None"),
        ({"qhat": {"audio": None}}, TypeError, r"qhat\['audio'\] must be a 0-d tensor.*got None"),
        ({"qhat": {"image": torch.tensor(0.5)}}, ValueError, r"got \['image'\] without 'audio'"),
        ({"qhat": {"audio": torch.zeros(2)}}, ValueError, r"qhat\['audio'\] must be 0-d, got shape \(2,\)"),
        ({"qhat": {"audio": torch.tensor(torch.nan)}}, ValueError, "qhat must not be NaN"),
        ({"unimodal_logits": {"audio": torch.full((2, 3), torch.nan)}}, ValueError, "must be finite"),
        ({"fused_logits": torch.full((2, 3), torch.nan)}, ValueError, "fused_logits must be finite"),
        ({"kind": "ranked"}, ValueError, "kind must be one of 'normalized', 'reciprocal', 'probability' with LAC, got"),
        ({"score": "lac"}, TypeError, r"score must be callable, such as LAC\(\), got str"),
    ],
)
def test_bad_use_is_refused(change, error, message):
    good = {
        "unimodal_logits": {"audio": torch.zeros(2, 3)},
        "fused_logits": torch.zeros(2, 3),
        "qhat": {"audio": torch.tensor(0.9)},
    }
    collaborative_reliability(**good)
    with pytest.raises(error, match=message):
        collaborative_reliability(**(good | change))


@pytest.mark.parametrize(("a", "b"), [(-0.1, 0.6), (0.6, -1), (math.nan, 0.6), (0.6, math.inf)])
def test_a_weight_that_could_turn_a_gradient_round_is_refused(a, b):
    with pytest.raises(ValueError, match=r"must be finite and at least 0, got"):
        gsc_weights(torch.ones(2), a=a, b=b)


def test_a_coefficient_is_a_number():
    with pytest.raises(TypeError, match="a must be a number, got str"):
        gsc_weights(torch.ones(2), a="0.6")


def test_weights_are_of_one_modality():
    with pytest.raises(TypeError, match="reliability must be the tensor of one modality, got dict"):
        gsc_weights({"audio": torch.ones(2)})


def test_a_probability_takes_no_notice_of_the_prediction_set():
    logits = {"a": torch.tensor([[2.0, 0.0], [0.0, 1.0]]), "b": torch.zeros(2, 2)}
    fused = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    for qhat in (0.0, torch.inf):
        thresholds = dict.fromkeys(logits, torch.tensor(qhat))
        reliability = collaborative_reliability(logits, fused_logits=fused, qhat=thresholds, kind="probability")
        torch.testing.assert_close(reliability["a"], logits["a"].softmax(-1)[:, 0])
        assert reliability["b"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("kind", ["normalized", "reciprocal", "probability"])
def test_a_score_of_ones_own_ranks_as_the_probability_does(kind):
    logits, fused = {m: torch.randn(5, 4) for m in ("audio", "image")}, torch.randn(5, 4)
    qhat = dict.fromkeys(logits, torch.tensor(torch.inf))
    lac, own = (
        collaborative_reliability(logits, fused_logits=fused, qhat=qhat, score=score, kind=kind)
        for score in (LAC(), Odds())
    )
    assert all(torch.equal(lac[m], own[m]) for m in logits)
