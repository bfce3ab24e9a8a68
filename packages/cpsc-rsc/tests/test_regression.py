"""The same module with a regression score: targets in place of labels, predictions in place of logits."""

import pytest
import torch
from torch import nn

from conformal_core import CQR, LAC, AbsoluteResidual, NormalizedResidual
from cpsc_rsc import MultimodalSelfCalibration, RepresentationSelfCalibration, component_reliability, represent

B, N, D = 6, 5, 8
SCORES = {"absolute": (AbsoluteResidual(), 1), "normalized": (NormalizedResidual(), 2), "cqr": (CQR(), 2)}


class Positive(nn.Module):
    """A head for any of the scores: its second column is positive, and larger than its first."""

    def __init__(self, columns):
        super().__init__()
        self.linear = nn.Linear(D, columns)
        self.columns = columns

    def forward(self, x):
        out = self.linear(x)
        return out if self.columns == 1 else torch.cat([out[:, :1], out[:, :1].abs() + 0.1 + out[:, 1:].abs()], -1)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("qhat", [0.3, 1.0, float("inf")])
def test_reliability_of_a_component_is_how_deep_the_target_lies_in_its_interval(name, qhat):
    score, columns = SCORES[name]
    head = Positive(columns).double()
    c, y = torch.randn(B, N, D, dtype=torch.float64), torch.randn(B, dtype=torch.float64)
    threshold = torch.tensor(qhat, dtype=torch.float64)
    reliability, scores = component_reliability(c, y, head=head, qhat=threshold, score=score)
    for b in range(B):
        for k in range(N):
            prediction = score.check_output("output", head(c[b, k][None]))
            low, high = score.interval(prediction, qhat)[0].tolist()
            own = scores[b, k].item()
            inner_low, inner_high = score.interval(prediction, own)[0].tolist()
            inside = low <= y[b].item() <= high
            wanted = 1 - (inner_high - inner_low) / (high - low) if inside else 0.0
            assert reliability[b, k].item() == pytest.approx(wanted, abs=1e-12)
            assert not reliability.requires_grad


def test_the_components_nearest_to_the_target_are_kept():
    """With one threshold and intervals of one width, the most reliable component has the smallest residual."""
    rsc = RepresentationSelfCalibration(D, components=N, top_k=2, score=AbsoluteResidual())
    head, h, y = nn.Linear(D, 1), torch.randn(B, D), torch.randn(B)
    out = rsc(h, y, head=head, qhat=torch.tensor(100.0))
    residual = (head(out.components)[..., 0] - y[:, None]).abs()
    assert out.selected.tolist() == residual.argsort(-1)[:, :2].tolist()
    torch.testing.assert_close(out.recomposed, out.components[torch.arange(B)[:, None], out.selected].mean(1))


def test_where_no_interval_holds_the_target_the_smaller_score_wins():
    rsc = RepresentationSelfCalibration(D, components=N, top_k=1, score=AbsoluteResidual())
    head, h, y = nn.Linear(D, 1), torch.randn(B, D), torch.full((B,), 50.0)
    out = rsc(h, y, head=head, qhat=torch.tensor(0.1))
    assert not out.reliability.any()
    assert out.selected[:, 0].tolist() == (head(out.components)[..., 0] - y[:, None]).abs().argmin(-1).tolist()


@pytest.mark.parametrize("name", SCORES)
def test_collaborative_inference_selects_by_the_point_of_the_fused_prediction(name):
    score, columns = SCORES[name]
    rsc = MultimodalSelfCalibration({"a": D, "b": D}, components=N, top_k=2, score=score)
    heads = {m: Positive(columns) for m in "ab"}
    features, qhat = {m: torch.randn(B, D) for m in "ab"}, {m: torch.tensor(0.7) for m in "ab"}

    def predict(h):
        return (heads["a"](h["a"]) + heads["b"](h["b"])) / 2

    got = represent(rsc, features, mode="collaborative", predict=predict, heads=heads, qhat=qhat)
    point = score.point(score.check_output("output", predict(features)))
    for m in "ab":
        wanted = rsc[m](features[m], point, head=heads[m], qhat=qhat[m])
        torch.testing.assert_close(got[m], wanted.recomposed)


def test_training_lowers_the_error_with_the_same_call_as_for_classes():
    torch.manual_seed(0)
    x = torch.randn(256, D)
    y = x[:, 0] - 2 * x[:, 1]
    encoder, head = nn.Linear(D, D), nn.Linear(D, 1)
    rsc = RepresentationSelfCalibration(D, components=N, top_k=2, residual=0.3, score=AbsoluteResidual())
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters(), *rsc.parameters()], lr=0.02)
    errors = []
    for _ in range(150):
        out = rsc(encoder(x), y, head=head, qhat=torch.tensor(1.0))
        error = nn.functional.mse_loss(head(out.recomposed)[:, 0], y)
        optimizer.zero_grad()
        (error + out.divergence).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 10


@pytest.mark.newer_torch
def test_one_graph():
    rsc = RepresentationSelfCalibration(D, components=N, top_k=2, score=CQR())
    head, h, y, qhat = nn.Linear(D, 2), torch.randn(B, D), torch.randn(B), torch.tensor(0.4)

    def call(h, y, qhat):
        out = rsc(h, y, head=head, qhat=qhat, check=False)
        return out.recomposed, out.reliability

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for got, wanted in zip(compiled(h, y, qhat), call(h, y, qhat), strict=True):
        torch.testing.assert_close(got, wanted)


def call(**changes):
    arguments = {
        "components": torch.randn(B, N, D),
        "labels": torch.randn(B),
        "head": nn.Linear(D, 1),
        "qhat": torch.tensor(0.5),
        "score": AbsoluteResidual(),
    }
    arguments |= changes
    return component_reliability(arguments.pop("components"), arguments.pop("labels"), **arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"labels": torch.zeros(B, dtype=torch.long)},
            TypeError,
            "labels must be of a floating dtype, got torch.int64",
        ),
        ({"labels": torch.zeros(B, 1)}, ValueError, r"labels must have shape \(6,\), got \(6, 1\)"),
        ({"head": nn.Linear(D, 3)}, ValueError, r"output of head must have shape \(30,\) or \(30, 1\), got"),
        ({"score": CQR()}, ValueError, r"output of head must have shape \(30, 2\), got \(30, 1\)"),
        (
            {"labels": torch.tensor([0.0, torch.nan, 0, 0, 0, 0])},
            ValueError,
            "labels must be finite, got nan at index 1",
        ),
        (
            {"kind": "reciprocal"},
            ValueError,
            "kind must be one of 'normalized' with AbsoluteResidual, got 'reciprocal'",
        ),
        ({"qhat": torch.tensor(torch.nan)}, ValueError, "qhat must not be NaN"),
        ({"score": LAC()}, TypeError, "labels must be of an integer dtype"),
    ],
)
def test_bad_use_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        call(**changes)


def test_a_module_refuses_a_kind_that_targets_do_not_have():
    with pytest.raises(ValueError, match="reliability must be one of 'normalized' with CQR, got 'probability'"):
        RepresentationSelfCalibration(D, score=CQR(), reliability="probability")
