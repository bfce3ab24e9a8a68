"""READ: its loss, what adapts, and that the model of the run stays as it is."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.inference import Trained, parse_inference
from cpsc_train.inference.read import read_loss
from cpsc_train.methods import MethodConfig
from cpsc_train.models import FUSED, FusionConfig, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig

MODALITIES = ("a", "b")


def trained(*, fusion="late", method="joint-unimodal", seed=0):
    torch.manual_seed(0)
    shapes = {m: Modality(kind="vector", shape=(4,)) for m in MODALITIES}
    encoders = {m: MLPConfig(hidden=8) for m in MODALITIES}
    model = MultimodalClassifier(shapes, encoders, fusion=FusionConfig.named(fusion)(), dim=6, classes=3)
    config = MethodConfig.named(method)()
    return Trained(model, config.build(model, MODALITIES), None, batch_size=16, seed=seed)


def features(rows=50):
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(rows, 6, generator=generator) for m in MODALITIES}


def predicted(text, of, values):
    with torch.no_grad():
        return parse_inference(text).build(of).predict(values)


def test_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.4, 0.0], [0.0, 3.0, 0.0]])
    expected, mean = 0.0, [0.0] * 3
    for row in logits.tolist():
        exponentials = [math.exp(z) for z in row]
        p = [e / sum(exponentials) for e in exponentials]
        expected += -max(p) * math.log(max(p)) / 3  # 1 + log γ = 0 at γ = 1/e
        mean = [m + q / 3 for m, q in zip(mean, p, strict=True)]
    expected -= -sum(m * math.log(m) for m in mean)
    assert float(read_loss(logits)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("top", "grows"), [(0.3, False), (0.45, True), (0.9, True)])
def test_confidence_grows_above_the_threshold_only(top, grows):
    """Gradient of the first term with respect to p_max: 1 + log γ − log p − 1 = log γ − log p."""
    rest = (1 - top) / 7
    p = torch.tensor([[top] + [rest] * 7])
    # Balanced over classes, so the entropy of the mean prediction has a zero gradient by symmetry.
    logits = torch.cat([p.roll(k, 1) for k in range(8)]).log().requires_grad_()
    read_loss(logits).backward()
    assert bool(logits.grad[0, 0] < 0) == grows


def test_one_step_is_adam_on_the_heads():
    of, values = trained(), features(20)
    logits, weights = predicted("read:lr=0.01:batch_size=20", of, values)
    assert weights == {}
    copies = [p.detach().clone().requires_grad_() for p in of.model.heads.parameters()]
    a, b = (values[m] @ w.T + c for m, w, c in zip(MODALITIES, copies[::2], copies[1::2], strict=True))
    read_loss((a + b) / 2).backward()
    optimizer = torch.optim.Adam(copies, lr=0.01)
    optimizer.step()
    moved = {m: values[m] @ w.T + c for m, w, c in zip(MODALITIES, copies[::2], copies[1::2], strict=True)}
    torch.testing.assert_close(logits[FUSED], (moved["a"] + moved["b"]) / 2)
    torch.testing.assert_close(logits["a"], moved["a"])


@pytest.mark.parametrize(
    ("fusion", "method", "same"),
    [("concat", "joint", True), ("sum", "joint-unimodal", True), ("late", "joint", False), ("concat", "tmc", False)],
)
def test_fusion_adapts_and_heads_only_where_the_decision_needs_no_fusion(fusion, method, same):
    of, values = trained(fusion=fusion, method=method), features()
    with torch.no_grad():
        before = of.logits(values)
    after, _ = predicted("read:lr=0.05", of, values)
    assert torch.equal(before["a"], after["a"]) == same
    assert not torch.allclose(before[FUSED], after[FUSED])


def test_model_is_unchanged_and_calls_do_not_affect_each_other():
    of, values = trained(fusion="concat"), features()
    state = {name: value.clone() for name, value in of.model.state_dict().items()}
    with torch.no_grad():
        variant = parse_inference("read:lr=0.05:steps=2").build(of)
        first, second = (variant.predict(values)[0] for _ in range(2))
    assert all(torch.equal(value, of.model.state_dict()[name]) for name, value in state.items())
    assert all(p.grad is None for p in of.model.parameters())
    assert all(torch.equal(first[head], second[head]) for head in first)
    other, _ = predicted("read:lr=0.05:steps=2", trained(fusion="concat", seed=1), values)
    assert not torch.equal(first[FUSED], other[FUSED])


def test_rows_keep_their_order_and_a_modality_may_be_missing():
    of, values = trained(), features()
    logits, _ = predicted("read:lr=1e-12", of, values)
    with torch.no_grad():
        torch.testing.assert_close(logits[FUSED], of.logits(values)[FUSED])
    alone, _ = predicted("read:lr=0.05", of, {"a": values["a"]})
    assert set(alone) == {"a", FUSED}


def test_method_parameters_adapt_where_nothing_else_does():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def predict(self, model, features, qhat, present):
            return {FUSED: self.layer(features["a"])}

    of = trained()
    values = features()
    own = Own()
    logits, _ = predicted("read:lr=0.05", Trained(of.model, own, None, batch_size=16, seed=0), values)
    assert not torch.allclose(logits[FUSED], own.layer(values["a"]))
    fixed = SimpleNamespace(predict=lambda model, features, qhat, present: {FUSED: features["a"][:, :3]})
    frozen = nn.Module()
    frozen.predict = fixed.predict
    logits, _ = predicted("read", Trained(of.model, frozen, None, batch_size=16, seed=0), values)
    assert torch.equal(logits[FUSED], values["a"][:, :3])


def test_rows_that_lack_a_modality():
    of, values = trained(), features()
    present = {"b": torch.arange(50) % 3 > 0}
    with torch.no_grad():
        logits, _ = parse_inference("read:lr=1e-12").build(of).predict(values, present)
        torch.testing.assert_close(logits[FUSED], of.logits(values, present)[FUSED])
        torch.testing.assert_close(logits[FUSED][0], of.model.heads["a"](values["a"][0]))


def test_bad_text():
    with pytest.raises(UserError, match="inference 'raed': unknown inference 'raed'; did you mean 'read'"):
        parse_inference("raed")
    with pytest.raises(UserError, match=r"inference\.lr must be positive"):
        parse_inference("read:lr=-1")
    with pytest.raises(UserError, match="inference 'read:rate=1': unknown key 'rate'"):
        parse_inference("read:rate=1")
