"""The same functions and the same hook with a regression score."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from conformal_core import CQR, AbsoluteResidual, NormalizedResidual
from cpsc_gsc import GradientSelfCalibration, collaborative_reliability, gsc_loss

B = 7
SQUARED = partial(mse_loss, reduction="none")


def pinball(predictions, y):
    low, high = y - predictions[:, 0], y - predictions[:, 1]
    return torch.maximum(0.05 * low, -0.95 * low) + torch.maximum(0.95 * high, -0.05 * high)


def outputs(columns, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    predictions = {
        m: torch.randn(B, columns, generator=generator, dtype=dtype).sort(-1).values for m in ("audio", "image")
    }
    if columns == 2:
        predictions = {m: torch.stack([x[:, 0], x[:, 0].abs() + 0.5], -1) for m, x in predictions.items()}
    return predictions


@pytest.mark.parametrize("columns_last", [True, False])
def test_reliability_is_one_minus_the_distance_from_the_fused_prediction_in_units_of_qhat(columns_last):
    predictions = outputs(1)
    fused = (predictions["audio"] + predictions["image"]) / 2
    qhat = {m: torch.tensor(q, dtype=torch.float64) for m, q in {"audio": 0.4, "image": 2.0}.items()}
    of_heads = predictions if columns_last else {m: x[:, 0] for m, x in predictions.items()}
    got = collaborative_reliability(of_heads, fused_logits=fused, qhat=qhat, score=AbsoluteResidual())
    for m, rho in got.items():
        wanted = (1 - (predictions[m] - fused).abs()[:, 0] / qhat[m]).clamp_min(0)
        torch.testing.assert_close(rho, wanted)


@pytest.mark.parametrize(("score", "middle"), [(CQR(), True), (NormalizedResidual(), False)])
def test_two_columns_are_judged_at_the_point_that_the_fused_prediction_stands_for(score, middle):
    predictions = outputs(2)
    fused = (predictions["audio"] + predictions["image"]) / 2
    point = fused.mean(-1) if middle else fused[:, 0]
    qhat = {m: torch.tensor(0.6, dtype=torch.float64) for m in predictions}
    got = collaborative_reliability(predictions, fused_logits=fused, qhat=qhat, score=score)
    for m, rho in got.items():
        low, high = score.interval(predictions[m], 0.6).unbind(-1)
        assert ((rho > 0) == ((low < point) & (point < high))).all()
        torch.testing.assert_close(rho, score.reliability(predictions[m], point, 0.6))


@pytest.mark.parametrize(("score", "columns", "loss"), [(AbsoluteResidual(), 1, SQUARED), (CQR(), 2, pinball)])
def test_the_gradient_is_that_of_the_weighted_losses(score, columns, loss):
    predictions = {m: x.requires_grad_() for m, x in outputs(columns).items()}
    fused, y = sum(predictions.values()) / 2, torch.linspace(-1, 1, B, dtype=torch.float64)
    qhat = {m: torch.tensor(0.8, dtype=torch.float64) for m in predictions}
    gsc_loss(predictions, y, fused_logits=fused, qhat=qhat, a=0.5, b=0.25, score=score, loss=loss).backward()
    rho = collaborative_reliability(predictions, fused_logits=fused, qhat=qhat, score=score)
    for m, x in predictions.items():
        alone = x.detach().requires_grad_()
        each = loss(alone[:, 0] if columns == 1 else alone, y)
        ((0.5 * rho[m] + 0.25) * each).mean().backward()
        torch.testing.assert_close(x.grad, alone.grad)


@pytest.mark.parametrize("mode", ["add", "scale"])
def test_the_hook_gives_the_gradient_of_the_loss(mode):
    torch.manual_seed(0)
    audio, head = nn.Linear(4, 8).double(), nn.Linear(8, 1).double()
    x, y = torch.randn(B, 4, dtype=torch.float64), torch.randn(B, dtype=torch.float64)
    qhat = {"audio": torch.tensor(0.9, dtype=torch.float64)}
    parameters = [*audio.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    score = AbsoluteResidual()
    with GradientSelfCalibration(
        encoders={"audio": audio}, mode=mode, score=score, loss=SQUARED if mode == "add" else None
    ).attach(optimizer) as hook:
        predictions = head(audio(x))
        rho = hook.observe({"audio": predictions}, y, fused_logits=predictions + 0.1, qhat=qhat)
        predictions.square().mean().backward()
        plain = [p.grad.clone() for p in parameters]
        optimizer.step()
    got = [p.grad for p in parameters]
    if mode == "scale":
        factor = 0.6 * rho["audio"].mean() + 0.6
        wanted = [factor * g if i < 2 else g for i, g in enumerate(plain)]
    else:
        predictions = head(audio(x))
        loss = gsc_loss({"audio": predictions}, y, fused_logits=predictions + 0.1, qhat=qhat, score=score, loss=SQUARED)
        wanted = [p + g for p, g in zip(plain, torch.autograd.grad(loss, parameters), strict=True)]
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_a_loss_of_ones_own_serves_classes_too():
    logits, labels = {"audio": torch.randn(B, 3)}, torch.randint(3, (B,))
    arguments = {"fused_logits": logits["audio"], "qhat": {"audio": torch.tensor(0.9)}}
    own = gsc_loss(logits, labels, loss=partial(nn.functional.cross_entropy, reduction="none"), **arguments)
    torch.testing.assert_close(own, gsc_loss(logits, labels, **arguments))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"loss": None}, ValueError, r"loss must be given with a score of regression such as AbsoluteResidual\(\)"),
        ({"loss": mse_loss}, ValueError, r"loss must return one value for each sample, of shape \(7,\), got \(\)"),
        (
            {"labels": torch.zeros(B, dtype=torch.long)},
            TypeError,
            "labels must be of a floating dtype, got torch.int64",
        ),
        ({"labels": torch.zeros(3)}, ValueError, r"labels must have shape \(7,\), got \(3,\)"),
        ({"labels": torch.full((B,), torch.nan)}, ValueError, "labels must be finite, got nan at index 0"),
        ({"score": CQR()}, ValueError, r"unimodal_logits\['audio'\] must have shape \(B, 2\), got \(7,\)"),
        ({"fused_logits": torch.zeros(3)}, ValueError, r"fused_logits must have shape \(7,\), got \(3,\)"),
        (
            {"reliability": "reciprocal"},
            ValueError,
            "reliability must be one of 'normalized' with AbsoluteResidual, got 'reciprocal'",
        ),
        ({"qhat": {}}, ValueError, "qhat must hold every modality"),
    ],
)
def test_bad_use_is_refused(changes, error, message):
    arguments = {
        "unimodal_logits": {"audio": torch.zeros(B)},
        "labels": torch.zeros(B),
        "fused_logits": torch.zeros(B),
        "qhat": {"audio": torch.tensor(1.0)},
        "score": AbsoluteResidual(),
        "loss": SQUARED,
    } | changes
    with pytest.raises(error, match=message):
        gsc_loss(arguments.pop("unimodal_logits"), arguments.pop("labels"), **arguments)


def test_the_hook_needs_a_loss_before_anything_starts():
    with pytest.raises(ValueError, match="loss must be given with a score of regression"):
        GradientSelfCalibration(encoders={"audio": nn.Linear(2, 2)}, score=CQR())
