"""Methods that change gradients or what is minimised, against their equations by hand."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from cpsc_train.data import Modality
from cpsc_train.methods import MethodConfig
from cpsc_train.methods.agm import AGMConfig
from cpsc_train.methods.arl import ARLConfig, weights
from cpsc_train.methods.base import zeroed
from cpsc_train.methods.lfm import LFMConfig, disagreement
from cpsc_train.methods.mla import MLAConfig, entropy, projected
from cpsc_train.methods.mmpareto import MMParetoConfig, combine
from cpsc_train.methods.ogm_ge import OGMGEConfig, coefficients
from cpsc_train.methods.pmr import PMRConfig
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig

MODALITIES = ("a", "b")
ROWS, CLASSES, DIM = 12, 3, 4


# OGM-GE


def test_ogm_slows_down_the_modality_that_is_ahead():
    k = coefficients(torch.tensor([6.0, 3.0]), alpha=0.8)
    assert k.tolist() == pytest.approx([1 - np.tanh(0.8 * 2), 1.0])
    assert coefficients(torch.tensor([5.0, 5.0]), alpha=0.8).tolist() == [1.0, 1.0]
    three = coefficients(torch.tensor([6.0, 3.0, 1.0]), alpha=0.5)
    assert three.tolist() == pytest.approx([1 - np.tanh(0.5 * 3), 1.0, 1.0])


def test_ogm_scales_the_gradients_of_encoders_alone(model, batch, step):
    inputs, labels = batch
    plain = OGMGEConfig(alpha=0.0, noise=False).build(model, MODALITIES)
    step(plain, model, batch)
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    logits = {m: z.detach() for m, z in model.classify(model.encode(inputs)).items()}
    true = [float(logits[m].softmax(-1).gather(1, labels[:, None]).sum()) for m in MODALITIES]
    step(OGMGEConfig(alpha=0.7, noise=False).build(model, MODALITIES), model, batch)
    ratio = np.array(true) / np.array(true[::-1])
    k = dict(zip(MODALITIES, np.where(ratio > 1, 1 - np.tanh(0.7 * ratio), 1.0), strict=True))
    assert min(k.values()) < 0.9
    for name, p in model.named_parameters():
        if p.grad is None:
            continue
        part, m = name.split(".")[:2]
        scale = k[m] if part == "encoders" and p.ndim == 2 else 1.0
        torch.testing.assert_close(p.grad, before[name] * scale, rtol=1e-5, atol=1e-8)


def test_ogm_noise_has_the_deviation_of_the_gradient(model, batch, step):
    step(OGMGEConfig(alpha=0.0, noise=False).build(model, MODALITIES), model, batch)
    (weight,) = [p for p in model.encoders["a"].parameters() if p.shape == (6, 5)]
    plain = weight.grad.clone()
    found = []
    for seed in range(300):
        torch.manual_seed(seed)
        step(OGMGEConfig(alpha=0.0).build(model, MODALITIES), model, batch)
        found.append(weight.grad - plain)
    assert torch.stack(found).std() == pytest.approx(float(plain.std()), rel=0.05)


def test_ogm_ends(model, batch, step, alone, gradients):
    step(OGMGEConfig(alpha=0.0, noise=False).build(model, MODALITIES), model, batch)
    plain = gradients(model.encoders["a"])
    method = OGMGEConfig(start=1, end=2).build(model, MODALITIES)
    for epoch, active in ((0, False), (1, True), (2, True), (3, False)):
        method.on_epoch_start(epoch, alone)
        step(method, model, batch)
        assert torch.equal(gradients(model.encoders["a"]), plain) != active


# AGM


def test_agm_scales_the_gradient_of_each_part(model, batch, step, alone, gradients):
    """With late fusion the part of m has a gradient in encoder m alone, so that its gradient is κ_m times the plain."""
    inputs, labels = batch
    step(MethodConfig.named("joint")().build(model, MODALITIES), model, batch)
    plain = {m: gradients(model.encoders[m]).clone() for m in MODALITIES}
    method = AGMConfig(alpha=0.5).build(model, MODALITIES)
    method.running.copy_(torch.tensor([1.0, 1.4]))
    method.steps.fill_(4)
    out = step(method, model, batch)
    features = model.encode(inputs)
    both, a, b = (zeroed(model, features, kept) for kept in ("ab", "a", "b"))
    parts = {"a": (both - b + a) / 2, "b": (both - a + b) / 2}
    torch.testing.assert_close(parts["a"] + parts["b"], out.logits[FUSED])
    s = {m: float(cross_entropy(part, labels).detach()) for m, part in parts.items()}
    kappa = {
        "a": np.exp(0.5 * (np.exp(0.4) - np.exp(s["b"] - s["a"]))),
        "b": np.exp(0.5 * (np.exp(-0.4) - np.exp(s["a"] - s["b"]))),
    }
    assert abs(kappa["a"] - 1) > 0.05
    for m in MODALITIES:
        torch.testing.assert_close(gradients(model.encoders[m]), kappa[m] * plain[m], rtol=1e-4, atol=1e-7)
    expected = torch.tensor([1.0 + (s["a"] - 1.0) / 5, 1.4 + (s["b"] - 1.4) / 5])
    torch.testing.assert_close(method.running, expected, rtol=1e-5, atol=1e-6)


def test_agm_with_three_modalities_shares_out_the_whole(batch, step):
    vector, names = Modality(kind="vector", shape=(5,)), ("a", "b", "c")
    model = MultimodalClassifier(
        dict.fromkeys(names, vector), dict.fromkeys(names, MLPConfig(hidden=6)), dim=DIM, classes=CLASSES
    )
    inputs, labels = batch
    three = inputs | {"c": inputs["a"] * 2}
    out = step(AGMConfig(alpha=0.0).build(model, names), model, (three, labels))
    torch.testing.assert_close(out.terms["ce_fused"], cross_entropy(model(three)[FUSED], labels))


# PMR


@pytest.mark.parametrize("weight", ["paper", "released"])
def test_pmr_draws_the_slower_modality_to_its_prototypes(weight, model, batch, step):
    inputs, labels = batch
    method = PMRConfig(strength=2.0, momentum=0.6, weight=weight).build(model, MODALITIES)
    first = step(method, model, batch)
    assert first.terms["prototype_a"].item() == first.terms["prototype_b"].item() == 0  # no prototypes yet
    features = {m: h.detach() for m, h in model.encode(inputs).items()}
    prototypes = {m: torch.stack([h[labels == k].mean(0) for k in range(CLASSES)]) for m, h in features.items()}
    for place, m in enumerate(MODALITIES):
        torch.testing.assert_close(method.prototypes[place], prototypes[m])
    second = step(method, model, batch)  # whose scores are the first that prototypes give
    assert second.terms["prototype_a"].item() == second.terms["prototype_b"].item() == 0
    second = step(method, model, batch)
    near = {m: -torch.cdist(features[m], prototypes[m]) for m in MODALITIES}
    true = {m: float(s.softmax(-1).gather(1, labels[:, None]).sum()) for m, s in near.items()}
    slow, fast = sorted(true, key=true.get)
    expected = 2 * (min(1.0, true[fast] / true[slow] - 1) if weight == "paper" else 1.0)
    assert second.terms[f"prototype_{fast}"].item() == 0
    assert second.terms[f"prototype_{slow}"].item() == pytest.approx(
        expected * float(cross_entropy(near[slow], labels)), rel=1e-4
    )
    torch.testing.assert_close(method.prototypes[0], prototypes["a"])  # the same features once more
    few = ({m: x[labels == 0] * 2 for m, x in inputs.items()}, labels[labels == 0])
    step(method, model, few, rows=torch.arange(4))
    new = model.encode(few[0])["a"].detach().mean(0)
    torch.testing.assert_close(method.prototypes[0, 0], 0.6 * prototypes["a"][0] + 0.4 * new)
    torch.testing.assert_close(method.prototypes[0, 1], prototypes["a"][1])


# MMPareto


def test_pareto_weights_by_hand():
    agree = combine(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(agree, torch.tensor([3.0, 1.0]))
    fused, unimodal = torch.tensor([3.0, 0.0]), torch.tensor([-1.0, 1.0])
    k = ((unimodal - fused) @ unimodal) / (unimodal - fused).square().sum()  # (4 + 1) / 17
    assert float(k) == pytest.approx(5 / 17)
    shortest = k * fused + (1 - k) * unimodal
    assert float(shortest @ (fused - unimodal)) == pytest.approx(0, abs=1e-6)
    expected = 2 * shortest * max(1.0, float((fused + unimodal).norm() / (2 * shortest).norm()))
    torch.testing.assert_close(combine(fused, unimodal), expected)


def test_pareto_never_harms_either_loss():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        fused, unimodal = torch.randn(2, 6, generator=generator) * torch.tensor([[3.0], [0.5]])
        found = combine(fused, unimodal)
        assert found @ fused >= -1e-4
        assert found @ unimodal >= -1e-4
        assert found.norm() >= (fused + unimodal).norm() - 1e-4


@pytest.mark.parametrize(("fused", "unimodal"), [([0.0, 0.0], [0.0, 0.0]), ([1.0, 2.0], [-1.0, -2.0]), ([1.0], [1.0])])
def test_pareto_where_a_length_is_nought(fused, unimodal):
    assert torch.isfinite(combine(torch.tensor(fused), torch.tensor(unimodal))).all()


def test_pareto_in_a_step(model, batch, step, gradients):
    inputs, labels = batch
    step(MMParetoConfig(strength=1.5).build(model, MODALITIES), model, batch)
    found = {m: gradients(model.encoders[m]).clone() for m in MODALITIES}
    heads = gradients(model.heads["a"]).clone()
    logits = model.classify(model.encode(inputs))
    for m in MODALITIES:
        parameters = list(model.encoders[m].parameters())
        both = [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(cross_entropy(logits[head], labels), parameters, retain_graph=True)
                ]
            )
            for head in (FUSED, m)
        ]
        torch.testing.assert_close(found[m], 1.5 * combine(*both), rtol=1e-4, atol=1e-7)
    model.zero_grad()
    sum(cross_entropy(z, labels) for z in logits.values()).backward()
    torch.testing.assert_close(heads, gradients(model.heads["a"]))


# MLA


def test_projection_is_that_of_recursive_least_squares():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, DIM, generator=generator, dtype=torch.float64)
    p = torch.eye(DIM, dtype=torch.float64)
    for row in x:
        p = projected(p, row, alpha=0.2)
    torch.testing.assert_close(p, torch.linalg.inv(torch.eye(DIM, dtype=torch.float64) + x.T @ x / 0.2))


def test_mla_takes_turns_and_leaves_what_was_said_of_the_modality_before(model, batch, step):
    inputs, labels = batch
    method = MLAConfig(alpha=1e-5).build(model, MODALITIES)
    assert method.steps_per_batch == 2
    out = step(method, model, batch)
    features = model.encode(inputs)
    for m in MODALITIES:
        torch.testing.assert_close(out.terms[f"ce_{m}"], cross_entropy(method.head(features[m]), labels))
    assert all(p.grad is None for p in model.encoders["a"].parameters())  # the last turn was that of b
    before = features["a"].detach().mean(0)
    change = method.head.weight.grad @ before
    plain = torch.autograd.grad(cross_entropy(method.head(features["b"]), labels), method.head.weight)[0]
    assert change.norm() < 1e-3 * (plain @ before).norm()
    torch.testing.assert_close(method.before, features["b"].detach().mean(0))


def test_mla_gives_weight_to_who_is_sure(model, batch, step):
    method = MLAConfig().build(model, MODALITIES)
    features = model.encode(batch[0])
    z = {m: method.head(features[m]) for m in MODALITIES}
    h = {m: -(p.softmax(-1) * p.log_softmax(-1)).sum(-1) for m, p in z.items()}
    share = (torch.exp(-h["a"]) / (torch.exp(-h["a"]) + torch.exp(-h["b"])))[:, None]
    torch.testing.assert_close(method.predict(model, features, None)[FUSED], share * z["a"] + (1 - share) * z["b"])
    assert entropy(torch.tensor([1e4, 0.0])).item() == 0


def test_the_released_projection_of_mla(model, batch, step, alone):
    """Its update in numpy, over two batches of one epoch: α falls with the rows that the epoch has seen."""
    inputs, labels = batch
    method = MLAConfig(alpha=0.1, projection="released").build(model, MODALITIES)
    method.on_fit_start(2 * ROWS)
    method.on_epoch_start(0, alone)
    means = {m: h.detach().double().numpy().mean(0) for m, h in model.encode(inputs).items()}
    p = np.eye(DIM)
    for turn in range(4):  # a, b, a, b; the first leaves the identity
        x, alpha = means[MODALITIES[turn % 2]], 0.1 ** (1 + (turn // 2) / 2)
        if turn:
            k = p @ x
            p = p - np.outer(k, k) / (alpha + np.outer(k, x))
            p /= np.linalg.norm(p)
        if turn % 2:
            step(method, model, batch)
            torch.testing.assert_close(method.projection.numpy(), p.astype(np.float32), rtol=1e-4, atol=1e-6)
    plain = torch.autograd.grad(cross_entropy(method.head(model.encode(inputs)["b"]), labels), method.head.weight)[0]
    torch.testing.assert_close(method.head.weight.grad, plain @ torch.tensor(p.T, dtype=torch.float32))
    assert float(method.seen) == 2 * ROWS
    method.on_epoch_start(0, alone)  # resumed
    assert float(method.seen) == 2 * ROWS
    method.on_epoch_start(1, alone)
    assert float(method.seen) == 0


# LFM


def test_disagreement_by_hand():
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.3, 0.5])
    middle = (p + q) / 2
    expected = 0.5 * (p * np.log(p / middle)).sum() + 0.5 * (q * np.log(q / middle)).sum()
    found = disagreement({"a": torch.tensor(p).log()[None], "b": torch.tensor(q).log()[None]})
    assert float(found) == pytest.approx(expected, rel=1e-5)
    reverse = 0.5 * (middle * np.log(middle / p)).sum() + 0.5 * (middle * np.log(middle / q)).sum()
    logits = {"a": torch.tensor(p).log()[None], "b": torch.tensor(q).log()[None]}
    assert float(disagreement(logits, kind="js-reversed")) == pytest.approx(reverse, rel=1e-5)


def test_the_fitted_balance_of_lfm_runs_over_the_epochs_of_the_run(model, batch, step, alone):
    """α_CE is the polynomial at epoch t of 200; here 25 of 100 is 50 of 200."""
    inputs, labels = batch
    method = LFMConfig(balance="fitted", epochs=100, divergence="js-reversed").build(model, MODALITIES)
    method.on_epoch_start(25, alone)
    out = step(method, model, batch)
    coefficients = [2.04623704e-1, 3.35472727e-3, 1.22989557e-4, -2.92947416e-6, 2.23835486e-8, -5.39717505e-11]
    alpha = np.polynomial.Polynomial(coefficients)(50)
    logits = model(inputs)
    apart = disagreement({m: logits[m] for m in MODALITIES}, kind="js-reversed").mean()
    torch.testing.assert_close(out.terms["ce_fused"], 2 * alpha * cross_entropy(logits[FUSED], labels))
    torch.testing.assert_close(out.terms["js"], 2 * (1 - alpha) * apart)
    assert float(method.divergence) == pytest.approx(0.95)  # nothing is learned
    assert MethodConfig.named("lfm").for_epochs(40).epochs == 40


def test_lfm_learns_its_weight_by_a_step_on_one_half_seen_from_the_other(model, batch, step):
    """The slope is that of the loss of odd rows after a small step on even ones, by finite differences."""
    inputs, labels = batch
    method = LFMConfig(start=0.5, rate=1.0).build(model, MODALITIES)
    out = step(method, model, batch)
    logits = model(inputs)
    js = disagreement({m: logits[m] for m in MODALITIES}).mean()
    torch.testing.assert_close(out.terms["js"], 2 * 0.5 * js)
    torch.testing.assert_close(out.terms["ce_fused"], cross_entropy(logits[FUSED], labels))
    found = 0.5 - float(method.divergence)

    lr, ends = 1e-3, []
    for weight in (0.4, 0.6):
        stepped = deepcopy(model).double()
        first = {m: x[::2].double() for m, x in inputs.items()}
        z = stepped(first)
        apart = disagreement({m: z[m] for m in MODALITIES}).mean()
        stepped.zero_grad()
        (2 * ((1 - weight) * cross_entropy(z[FUSED], labels[::2]) + weight * apart)).backward()
        with torch.no_grad():
            for p in stepped.parameters():
                p.sub_(lr * (0 if p.grad is None else p.grad))
            second = stepped({m: x[1::2].double() for m, x in inputs.items()})
            ends.append(float(cross_entropy(second[FUSED], labels[1::2])))
    assert found == pytest.approx((ends[1] - ends[0]) / 0.2 / lr, rel=2e-2)


def test_lfm_keeps_its_weight_in_bounds(model, batch, step):
    method = LFMConfig(rate=1e6).build(model, MODALITIES)
    step(method, model, batch)
    assert float(method.divergence) == pytest.approx(0.05) or float(method.divergence) == pytest.approx(0.95)
    fixed = LFMConfig(rate=0.0).build(model, MODALITIES)
    step(fixed, model, batch)
    assert float(fixed.divergence) == pytest.approx(0.95)


# ARL


def test_asymmetric_weights_by_hand():
    a, b = np.array([[3.0, -1.0], [1.0, 0.0]]), np.array([[0.2, 0.1], [0.0, 0.4]])

    def mean_entropy(z):
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        return -(p * np.log(p)).sum(1).mean()

    share = np.maximum(np.array([mean_entropy(a), mean_entropy(b)]) / (mean_entropy(a) + mean_entropy(b)), 0.3)
    w = 1 / share / (1 / share).sum()
    d = np.array([np.abs(a).mean(0).sum(), np.abs(b).mean(0).sum()])
    d /= d.sum()
    e = np.exp(4 * d[::-1] * w)
    assert weights(torch.tensor(np.stack([a, b])), temperature=4.0).tolist() == pytest.approx(
        (e / e.sum()).tolist(), rel=1e-5
    )


@pytest.mark.parametrize("weigh", [True, False])
def test_arl_scales_encoders_alone(weigh, model, batch, step):
    inputs, labels = batch
    method = ARLConfig(unimodal=2.0, temperature=6.0, weigh=weigh).build(model, MODALITIES)
    step(method, model, batch)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    features = model.encode(inputs)
    seen = torch.stack([zeroed(model, features, {m}) for m in MODALITIES])
    loss = cross_entropy(model.classify(features)[FUSED], labels)
    loss = loss + 2 * sum(cross_entropy(z, labels) for z in seen)
    loss.backward()
    factors = dict(zip(MODALITIES, 1 + (weights(seen, 6.0) if weigh else torch.zeros(2)), strict=True))
    assert not weigh or abs(factors["a"] - factors["b"]) > 1e-3
    for name, p in model.named_parameters():
        part, m = name.split(".")[:2]
        scale = factors[m].detach() if part == "encoders" else 1.0
        torch.testing.assert_close(found[name], p.grad * scale, rtol=1e-4, atol=1e-7)


def test_arl_starts_later(model, batch, step, alone):
    method = ARLConfig(start=2, unimodal=3.0).build(model, MODALITIES)
    before = step(method, model, batch)
    assert before.diagnostics["factor_a"].item() == 1
    method.on_epoch_start(2, alone)
    after = step(method, model, batch)
    torch.testing.assert_close(after.terms["ce_a"], 3 * before.terms["ce_a"])
    assert after.diagnostics["factor_a"].item() > 1
