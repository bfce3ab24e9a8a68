"""The compared methods against their equations by hand, in small cases, and in the cases that divide by 0."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln
from torch.nn.functional import cross_entropy, softplus

from cpsc_train import RunConfig, train
from cpsc_train.config import apply_overrides
from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.methods import Examined, MethodConfig, StepLosses
from cpsc_train.methods.agm import AGMConfig
from cpsc_train.methods.arl import ARLConfig, weights
from cpsc_train.methods.base import zeroed
from cpsc_train.methods.di_mml import DIMMLConfig, by_certainty
from cpsc_train.methods.evidential import conflict, dempster, divergence_from_ignorance, evidential_loss, mean_evidence
from cpsc_train.methods.iprm import IPRMConfig, slerp
from cpsc_train.methods.lfm import LFMConfig, disagreement
from cpsc_train.methods.mla import MLAConfig, entropy, projected
from cpsc_train.methods.mmpareto import MMParetoConfig, combine
from cpsc_train.methods.ogm_ge import OGMGEConfig, coefficients
from cpsc_train.methods.pdf import PDFConfig, relative_calibration, shared_confidence
from cpsc_train.methods.pmr import PMRConfig
from cpsc_train.methods.qmf import QMFConfig, energy, normalised, ranking_loss
from cpsc_train.methods.reconboost import ReconBoostConfig
from cpsc_train.methods.relearning import RelearningConfig, purity
from cpsc_train.methods.smv import SMVConfig, copies_of, values_of
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.mlp import MLPConfig
from cpsc_train.observability import Observer
from cpsc_train.recipes import recipe
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

MODALITIES = ("a", "b")
ROWS, CLASSES, DIM = 12, 3, 4
COMPARED = (
    "ogm-ge",
    "agm",
    "pmr",
    "mmpareto",
    "mla",
    "lfm",
    "arl",
    "iprm",
    "qmf",
    "tmc",
    "ecml",
    "pdf",
    "reconboost",
    "di-mml",
    "relearning",
    "smv",
)


def alone(tensor):
    """The sum over one process."""
    return tensor


@pytest.fixture
def model():
    torch.manual_seed(0)
    vector = Modality(kind="vector", shape=(5,))
    return MultimodalClassifier(
        dict.fromkeys(MODALITIES, vector), dict.fromkeys(MODALITIES, MLPConfig(hidden=6)), dim=DIM, classes=CLASSES
    )


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(ROWS, 5, generator=generator) for m in MODALITIES}
    return inputs, torch.arange(ROWS) % CLASSES


def step(method, model, batch, rows=None):
    """One step without an optimizer; gradients are those that it would be given in the last turn."""
    inputs, labels = batch
    whole = StepLosses({}, {})
    for turn in range(method.turns):
        asked = method.takes_turn(turn)
        model.zero_grad()
        method.zero_grad()
        method.meets(torch.arange(ROWS) if rows is None else rows)
        features = model.encode({m: inputs[m] for m in asked or inputs})
        out = method.losses(model, features, labels, None)
        method.backward(model, out.terms, lambda loss: loss.backward())
        method.adjust(model, alone)
        whole |= out
    return whole


def gradients(module):
    return torch.cat([p.grad.flatten() for p in module.parameters()])


# OGM-GE


def test_ogm_slows_down_the_modality_that_is_ahead():
    k = coefficients(torch.tensor([6.0, 3.0]), alpha=0.8)
    assert k.tolist() == pytest.approx([1 - np.tanh(0.8 * 2), 1.0])
    assert coefficients(torch.tensor([5.0, 5.0]), alpha=0.8).tolist() == [1.0, 1.0]
    three = coefficients(torch.tensor([6.0, 3.0, 1.0]), alpha=0.5)
    assert three.tolist() == pytest.approx([1 - np.tanh(0.5 * 3), 1.0, 1.0])


def test_ogm_scales_the_gradients_of_encoders_alone(model, batch):
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


def test_ogm_noise_has_the_deviation_of_the_gradient(model, batch):
    step(OGMGEConfig(alpha=0.0, noise=False).build(model, MODALITIES), model, batch)
    (weight,) = [p for p in model.encoders["a"].parameters() if p.shape == (6, 5)]
    plain = weight.grad.clone()
    found = []
    for seed in range(300):
        torch.manual_seed(seed)
        step(OGMGEConfig(alpha=0.0).build(model, MODALITIES), model, batch)
        found.append(weight.grad - plain)
    assert torch.stack(found).std() == pytest.approx(float(plain.std()), rel=0.05)


def test_ogm_ends(model, batch):
    step(OGMGEConfig(alpha=0.0, noise=False).build(model, MODALITIES), model, batch)
    plain = gradients(model.encoders["a"])
    method = OGMGEConfig(start=1, end=3).build(model, MODALITIES)
    for epoch, active in ((0, False), (1, True), (2, True), (3, False)):
        method.starts_epoch(epoch, alone)
        step(method, model, batch)
        assert torch.equal(gradients(model.encoders["a"]), plain) != active


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


def test_pareto_in_a_step(model, batch):
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


# TMC and ECML


def test_dempster_by_hand():
    """Two classes: b = (.4, .2), u = .4 and b = (.1, .5), u = .4, so that 1 − K = 1 − .4·.5 − .2·.1 = .78."""
    one, other = torch.tensor([[3.0, 2.0]]), torch.tensor([[1.5, 3.5]])
    u = 0.16 / 0.78
    b = np.array([0.04 + 0.16 + 0.04, 0.1 + 0.08 + 0.2]) / 0.78
    assert b.sum() + u == pytest.approx(1)
    np.testing.assert_allclose(dempster([one, other])[0].numpy(), b * 2 / u + 1, rtol=1e-6)
    torch.testing.assert_close(dempster([other, one]), dempster([one, other]))
    ignorant = torch.ones(1, 2)
    torch.testing.assert_close(dempster([one, ignorant]), one)


def test_the_evidential_loss_by_hand():
    alpha, labels, share = torch.tensor([[4.0, 1.5, 2.0], [1.0, 1.0, 1.0]]), torch.tensor([0, 2]), torch.tensor(0.3)
    expected = []
    for a, y in zip(alpha.double().numpy(), labels.tolist(), strict=True):
        rest = a.copy()
        rest[y] = 1
        s = rest.sum()
        kl = gammaln(s) - gammaln(rest).sum() - gammaln(3) + ((rest - 1) * (digamma(rest) - digamma(s))).sum()
        expected.append(digamma(a.sum()) - digamma(a[y]) + 0.3 * kl)
    assert float(evidential_loss(alpha, labels, share)) == pytest.approx(np.mean(expected), rel=1e-5)
    assert divergence_from_ignorance(torch.ones(2, 5)).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_conflict_by_hand():
    sure, other = torch.tensor([[9.0, 1.0]]), torch.tensor([[1.0, 9.0]])
    assert float(conflict([sure, other])) == pytest.approx(2 * 0.8 * 0.8 * 0.8)
    assert float(conflict([sure, sure])) == 0
    assert float(conflict([sure, torch.ones(1, 2)])) == 0  # who knows nothing contradicts nobody
    torch.testing.assert_close(mean_evidence([sure, other]), torch.tensor([[5.0, 5.0]]))


def test_evidence_is_a_probability_and_is_annealed(model, batch):
    inputs, labels = batch
    method = MethodConfig.named("tmc")(annealing=10).build(model, MODALITIES)
    features = model.encode(inputs)
    alphas = [softplus(model.heads[m](features[m])) + 1 for m in MODALITIES]
    expected = dempster(alphas)
    found = method.predict(model, features, None)
    torch.testing.assert_close(found[FUSED].softmax(-1), expected / expected.sum(-1, keepdim=True))
    torch.testing.assert_close(found["a"].exp().sum(-1), torch.ones(ROWS))
    for epoch, share in ((0, 0.0), (4, 0.4), (30, 1.0)):
        method.starts_epoch(epoch, alone)
        terms = method.losses(model, features, labels, None).terms
        torch.testing.assert_close(terms["evidence_fused"], evidential_loss(expected, labels, torch.tensor(share)))
    assert set(method.predict(model, {"a": features["a"]}, None)) == {"a", FUSED}


# QMF


def test_ranking_by_hand():
    confidence, hard = torch.tensor([0.5, 0.2, 0.4]), torch.tensor([1.0, 0.25, 0.25])
    # The harder of two should be the less confident: .3 + .75; equally hard: 0; −(.4 − .5) + .75.
    assert float(ranking_loss(confidence, hard)) == pytest.approx((1.05 + 0 + (0.1 + 0.75)) / 3)
    assert float(ranking_loss(torch.tensor([-1.0, 1.0]), torch.tensor([1.0, 0.0]))) == 0


def test_qmf_weighs_by_energy_and_remembers_losses(model, batch):
    inputs, labels = batch
    method = QMFConfig(ranking=0.5).build(model, MODALITIES)
    method.sized(20)
    first = step(method, model, batch, rows=torch.arange(4, 16))
    assert first.terms["ranking_a"].item() == 0  # 0/0: nobody has a history yet
    features = model.encode(inputs)
    z = {m: model.heads[m](features[m]) for m in MODALITIES}
    fused = sum(0.1 * z[m].logsumexp(-1, keepdim=True) * z[m] for m in MODALITIES)
    torch.testing.assert_close(method.predict(model, features, None)[FUSED], fused)
    expected = torch.zeros(2, 20)
    for place, m in enumerate(MODALITIES):
        expected[place, 4:16] = cross_entropy(z[m], labels, reduction="none").detach()
    torch.testing.assert_close(method.history, expected)
    second = step(method, model, batch, rows=torch.arange(4, 16))
    hard = normalised(expected)[0, 4:16]
    torch.testing.assert_close(second.terms["ranking_a"], 0.5 * ranking_loss(energy(z["a"]), hard))
    torch.testing.assert_close(method.history, 2 * expected)


# IPRM


def test_slerp_stays_on_the_sphere():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    angle = np.pi / 2 * 0.25
    torch.testing.assert_close(slerp(a, b, torch.tensor(0.25)), torch.tensor([[np.sin(angle), np.cos(angle)]]).float())
    torch.testing.assert_close(slerp(a, a, torch.tensor(0.25)), torch.tensor([[1.0, 0.0]]))
    near = torch.tensor([[1.0, 1e-9]], requires_grad=True)
    slerp(a, near, torch.tensor(0.5)).sum().backward()
    assert torch.isfinite(near.grad).all()
    assert torch.isfinite(slerp(a, torch.zeros(1, 2), torch.tensor(0.5))).all()


def test_iprm_gives_more_to_who_is_nearer(model, batch):
    inputs, labels = batch
    method = IPRMConfig(decay=0.8).build(model, MODALITIES)
    features = model.encode(inputs)
    mixed = method.head(slerp(features["a"], features["b"], torch.tensor(0.5)))
    kl = {}
    for m in MODALITIES:
        p, q = model.heads[m](features[m]).log_softmax(-1), mixed.log_softmax(-1)
        kl[m] = (p.exp() * (p - q)).sum(-1).mean().item()
    out = step(method, model, batch)
    assert float(method.weight) == pytest.approx(0.8 * 0.5 + 0.2 * kl["b"] / (kl["a"] + kl["b"]), rel=1e-5)
    torch.testing.assert_close(
        out.logits[FUSED], model.heads["a"](features["a"]) + model.heads["b"](features["b"]) + mixed
    )
    torch.testing.assert_close(out.terms["ce_mixed"], cross_entropy(mixed, labels))
    with pytest.raises(UserError, match="iprm mixes two modalities, got 3: a, b, c"):
        IPRMConfig().build(model, ("a", "b", "c"))


# PMR


def test_pmr_draws_the_slower_modality_to_its_prototypes(model, batch):
    inputs, labels = batch
    method = PMRConfig(strength=2.0, momentum=0.6).build(model, MODALITIES)
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
    weight = 2 * min(1.0, true[fast] / true[slow] - 1)
    assert second.terms[f"prototype_{fast}"].item() == 0
    assert second.terms[f"prototype_{slow}"].item() == pytest.approx(
        weight * float(cross_entropy(near[slow], labels)), rel=1e-4
    )
    torch.testing.assert_close(method.prototypes[0], prototypes["a"])  # the same features once more
    few = ({m: x[labels == 0] * 2 for m, x in inputs.items()}, labels[labels == 0])
    step(method, model, few, rows=torch.arange(4))
    new = model.encode(few[0])["a"].detach().mean(0)
    torch.testing.assert_close(method.prototypes[0, 0], 0.6 * prototypes["a"][0] + 0.4 * new)
    torch.testing.assert_close(method.prototypes[0, 1], prototypes["a"][1])


# AGM


def test_agm_scales_the_gradient_of_each_part(model, batch):
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


def test_agm_with_three_modalities_shares_out_the_whole(batch):
    vector, names = Modality(kind="vector", shape=(5,)), ("a", "b", "c")
    model = MultimodalClassifier(
        dict.fromkeys(names, vector), dict.fromkeys(names, MLPConfig(hidden=6)), dim=DIM, classes=CLASSES
    )
    inputs, labels = batch
    three = inputs | {"c": inputs["a"] * 2}
    out = step(AGMConfig(alpha=0.0).build(model, names), model, (three, labels))
    torch.testing.assert_close(out.terms["ce_fused"], cross_entropy(model(three)[FUSED], labels))


# MLA


def test_projection_is_that_of_recursive_least_squares():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, DIM, generator=generator, dtype=torch.float64)
    p = torch.eye(DIM, dtype=torch.float64)
    for row in x:
        p = projected(p, row, alpha=0.2)
    torch.testing.assert_close(p, torch.linalg.inv(torch.eye(DIM, dtype=torch.float64) + x.T @ x / 0.2))


def test_mla_takes_turns_and_leaves_what_was_said_of_the_modality_before(model, batch):
    inputs, labels = batch
    method = MLAConfig(alpha=1e-5).build(model, MODALITIES)
    assert method.turns == 2
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


def test_mla_gives_weight_to_who_is_sure(model, batch):
    method = MLAConfig().build(model, MODALITIES)
    features = model.encode(batch[0])
    z = {m: method.head(features[m]) for m in MODALITIES}
    h = {m: -(p.softmax(-1) * p.log_softmax(-1)).sum(-1) for m, p in z.items()}
    share = (torch.exp(-h["a"]) / (torch.exp(-h["a"]) + torch.exp(-h["b"])))[:, None]
    torch.testing.assert_close(method.predict(model, features, None)[FUSED], share * z["a"] + (1 - share) * z["b"])
    assert entropy(torch.tensor([1e4, 0.0])).item() == 0
    released = MLAConfig(normalize=True).build(model, MODALITIES)
    step(released, model, batch)
    assert float(released.projection.norm()) == pytest.approx(1)


# LFM


def test_disagreement_by_hand():
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.3, 0.5])
    middle = (p + q) / 2
    expected = 0.5 * (p * np.log(p / middle)).sum() + 0.5 * (q * np.log(q / middle)).sum()
    found = disagreement({"a": torch.tensor(p).log()[None], "b": torch.tensor(q).log()[None]})
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_lfm_learns_its_weight_by_a_step_on_one_half_seen_from_the_other(model, batch):
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


def test_lfm_keeps_its_weight_in_bounds(model, batch):
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
def test_arl_scales_encoders_alone(weigh, model, batch):
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


def test_arl_starts_later(model, batch):
    method = ARLConfig(start=2, unimodal=3.0).build(model, MODALITIES)
    before = step(method, model, batch)
    assert before.diagnostics["factor_a"].item() == 1
    method.starts_epoch(2, alone)
    after = step(method, model, batch)
    torch.testing.assert_close(after.terms["ce_a"], 3 * before.terms["ce_a"])
    assert after.diagnostics["factor_a"].item() > 1


# PDF


def test_confidence_by_hand():
    """t = .6 and .3; each is given the other's share of log t, and in use the less certain is held back."""
    t = np.array([0.6, 0.3])
    holo = np.log(t[::-1]) / np.log(t).sum()
    found = shared_confidence(torch.tensor(t)[:, None].logit())
    assert found.flatten().tolist() == pytest.approx((t + holo).tolist())
    assert torch.isfinite(shared_confidence(torch.tensor([[200.0], [200.0]]))).all()  # 0/0 of the source's code
    assert torch.isfinite(shared_confidence(torch.tensor([[-200.0], [200.0]]))).all()
    p, q = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.6, 0.4]]).log()
    assert relative_calibration({"a": p, "b": q}).flatten().tolist() == pytest.approx([1.0, 0.1 / 0.4])
    assert relative_calibration({"a": torch.zeros(1, 2), "b": torch.zeros(1, 2)}).flatten().tolist() == [1.0, 1.0]


def test_pdf_learns_the_probability_of_the_true_class(model, batch):
    inputs, labels = batch
    method = PDFConfig().build(model, MODALITIES)
    out = step(method, model, batch)
    features = {m: h.detach() for m, h in model.encode(inputs).items()}
    z = {m: model.heads[m](features[m]) for m in MODALITIES}
    t = {m: method.regressors[m](features[m]).sigmoid()[:, 0] for m in MODALITIES}
    true = {m: z[m].softmax(-1)[torch.arange(ROWS), labels] for m in MODALITIES}
    torch.testing.assert_close(out.terms["confidence_a"], (t["a"] - true["a"]).abs().mean())
    share = {m: t[m].log() / (t["a"].log() + t["b"].log()) for m in MODALITIES}
    w = torch.softmax(torch.stack([t["a"] + share["b"], t["b"] + share["a"]]), 0)[..., None]
    torch.testing.assert_close(out.logits[FUSED], w[0] * z["a"] + w[1] * z["b"])
    assert set(method.predict(model, {"a": features["a"]}, None)) == {"a", FUSED}
    torch.testing.assert_close(method.predict(model, {"a": features["a"]}, None)[FUSED], z["a"])


# ReconBoost


def test_reconboost_stages(model, batch):
    inputs, labels = batch
    method = ReconBoostConfig(epochs=2, together=1, consolidation=0.5).build(model, MODALITIES)
    features = model.encode(inputs)
    z = {m: model.heads[m](features[m]).detach() for m in MODALITIES}
    p = {m: s.softmax(-1) for m, s in z.items()}
    own = {m: cross_entropy(s, labels, reduction="none") for m, s in z.items()}

    method.starts_epoch(0, alone)
    out = step(method, model, batch)  # nobody is there yet, so that the others say 1/C
    torch.testing.assert_close(out.terms["boosting"], ((5 - 1 / CLASSES) * own["a"]).mean() / CLASSES)
    assert set(out.terms) == {"boosting"}
    assert all(p.grad is None for p in model.encoders["b"].parameters())
    torch.testing.assert_close(method.predict(model, features, None)[FUSED], z["a"])
    torch.testing.assert_close(method.predict(model, {"b": features["b"]}, None)[FUSED], z["b"])

    method.starts_epoch(2, alone)
    assert set(step(method, model, batch).terms) == {"ce_fused"}

    method.starts_epoch(3, alone)
    out = step(method, model, batch)
    right = p["a"][torch.arange(ROWS), labels]
    torch.testing.assert_close(out.terms["boosting"], ((5 - right) * own["b"]).mean() / CLASSES)
    torch.testing.assert_close(out.terms["consolidation"], 0.5 * (p["b"] - p["a"]).square().mean())
    assert all(p.grad is None or not p.grad.any() for p in model.encoders["a"].parameters())
    with torch.no_grad():
        method.rate.fill_(0.5)
    torch.testing.assert_close(method.predict(model, features, None)[FUSED], 0.5 * (z["a"] + z["b"]))

    method.starts_epoch(5, alone)
    step(method, model, batch)
    assert method.rate.grad is not None
    method.starts_epoch(6, alone)
    assert set(step(method, model, batch).terms) == {"boosting", "consolidation"}


# DI-MML


def test_di_mml_teaches_along_what_one_alone_knows(model, batch):
    inputs, labels = batch
    method = DIMMLConfig(start=3, temperature=0.5, shared=2.0).build(model, MODALITIES)
    assert [method.examines(epoch) for epoch in (2, 3, 4)] == [(), ("train",), ()]
    before = step(method, model, batch)
    assert before.terms["contrast"].item() == 0
    features = {m: h.detach() for m, h in model.encode(inputs).items()}
    torch.testing.assert_close(before.terms["shared_a"], 2 * cross_entropy(method.shared(features["a"]), labels))

    known = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)
    clear = labels[:, None].numpy() + np.zeros((1, DIM))
    noise = np.random.default_rng(0).standard_normal((ROWS, DIM))
    shown = {m: np.where(row.numpy(), clear, noise).astype(np.float32) for m, row in zip("ab", known, strict=True)}
    method.examine(model, {"train": Examined(shown, labels.numpy())})
    assert torch.equal(method.effective, known)

    a, b = features["a"], features["b"]
    terms = []
    for student, teacher, dimension in ((a, b, 2), (b, a, 0)):
        alike = torch.outer(student[:, dimension], teacher[:, dimension]) / 0.5
        terms.append(-(alike.diagonal() - alike.logsumexp(1)).mean())
    model.zero_grad()
    out = method.losses(model, model.encode(inputs), labels, None)
    torch.testing.assert_close(out.terms["contrast"], sum(terms))
    # `joined` learns from the features and does not change them.
    out.terms["ce_joined"].backward()
    assert all(p.grad is None for p in model.encoders.parameters())


def test_certainty_by_hand():
    sure, unsure = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    share = np.exp(0.9 / 0.5) / (np.exp(0.9 / 0.5) + np.exp(0.5 / 0.5))
    found = by_certainty({"a": sure, "b": unsure}, temperature=0.5)
    torch.testing.assert_close(found, share * sure + (1 - share) * unsure, rtol=1e-5, atol=1e-6)


# Diagnosing & Re-learning


def test_purity_against_scikit_learn():
    clustering = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    features = (3 * np.eye(4)[labels] + rng.standard_normal((120, 4))).astype(np.float32)
    span = features.max(0) - features.min(0)
    scaled = 2 * (features - features.min(0)) / span - 1
    places = clustering.KMeans(4, n_init=20, random_state=0).fit_predict(scaled)
    expected = sum(np.bincount(labels[places == k]).max() for k in range(4)) / 120
    assert purity(features, labels, 4) == pytest.approx(expected, abs=0.02)
    assert purity(np.zeros((6, 2), np.float32), np.array([0, 0, 0, 1, 1, 2]), 3) == pytest.approx(0.5)


def test_relearning_takes_the_encoder_that_does_not_generalise_back(model, batch):
    method = RelearningConfig(every=4, times=2, strength=3.0).build(model, MODALITIES)
    asked = [epoch for epoch in range(20) if method.examines(epoch)]
    assert asked == [4, 8]
    start = {name: p.detach().clone() for name, p in model.encoders.named_parameters()}
    with torch.no_grad():
        for p in model.encoders.parameters():
            p.add_(1.0)
    labels = np.arange(30) % CLASSES
    clear = np.eye(CLASSES, DIM, dtype=np.float32)[labels]
    same = np.zeros((30, DIM), np.float32)
    parts = {
        "train": Examined({"a": clear, "b": clear}, labels),
        "validation": Examined({"a": clear, "b": same}, labels),
    }
    method.examine(model, parts)
    share = np.tanh(3.0 * (1 - 1 / 3))
    for name, p in model.encoders.named_parameters():
        left = 1.0 if name.startswith("a.") else 1 - share
        torch.testing.assert_close(p.detach(), start[name] + left, rtol=1e-5, atol=1e-5)


# SMV


def test_values_and_copies_by_hand(model, batch):
    inputs, labels = batch
    features = model.encode(inputs)
    found = values_of(model, features, labels, MODALITIES)
    right = {kept: (zeroed(model, features, kept).argmax(-1) == labels).float() for kept in ("ab", "a", "b")}
    torch.testing.assert_close(found["a"], (2 * right["ab"] + right["a"] - right["b"]) / 2)
    assert copies_of({"a": torch.tensor([-0.5, 1.5])}, most=2).tolist() == [[2.0, 0.0]]


def test_smv_shows_a_weak_modality_alone(model, batch):
    inputs, labels = batch
    method = SMVConfig(warmup=2).build(model, MODALITIES)
    method.sized(ROWS)
    assert [method.examines(epoch) for epoch in (1, 2, 3)] == [(), ("train",), ("train",)]
    first = step(method, model, batch)
    torch.testing.assert_close(first.terms["ce_fused"], cross_entropy(model(inputs)[FUSED], labels))
    assert first.terms["alone_a"].item() == 0
    features = {m: h.detach() for m, h in model.encode(inputs).items()}
    method.examine(model, {"train": Examined({m: h.numpy() for m, h in features.items()}, labels.numpy())})
    copies = copies_of(values_of(model, features, labels, MODALITIES), 3)
    torch.testing.assert_close(method.copies, copies)
    out = step(method, model, batch)
    whole = 1 + copies.sum(0).mean()
    each = cross_entropy(zeroed(model, features, {"b"}), labels, reduction="none")
    torch.testing.assert_close(out.terms["alone_b"], (copies[1] * each).mean() / whole)
    torch.testing.assert_close(out.terms["ce_fused"], first.terms["ce_fused"] / whole)


# All


@pytest.mark.parametrize("name", COMPARED)
def test_probabilities_of_nought_and_one(name, model, batch):
    with torch.no_grad():
        for head in model.heads.values():
            head.weight.mul_(1e4)
    method = MethodConfig.named(name)().build(model, MODALITIES)
    method.sized(ROWS)
    features = {m: h.detach().numpy() for m, h in model.encode(batch[0]).items()}
    for epoch in range(30):
        method.starts_epoch(epoch, alone)
        shown = Examined(features, batch[1].numpy())
        method.examine(model, dict.fromkeys(method.examines(epoch), shown)) if method.examines(epoch) else None
        out = step(method, model, batch)
    assert all(torch.isfinite(term) for term in out.terms.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", COMPARED)
def test_it_trains_on_handwritten(name, tmp_path):
    changes = [f"method.name={name}", "epochs=6", "noise=[]"]
    config = RunConfig.from_plain(apply_overrides(recipe("handwritten").to_plain(), changes))
    results = train(config, tmp_path / "run")
    assert results["test"]["clean"]["accuracy"][FUSED] > 0.85
    assert set(results["test"]) == {"clean", "without-pix", "without-fou"}


REMEMBERING = {
    "ogm-ge": [],
    "agm": [],
    "mla": [],
    "lfm": [],
    "qmf": [],
    "iprm": [],
    "pmr": [],
    "tmc": [],
    "reconboost": ["method.epochs=1", "method.together=0"],
    "di-mml": ["method.start=1"],
    "relearning": ["method.every=1"],
    "smv": ["method.warmup=1"],
}
"""By name, settings that make what is remembered count in the second epoch."""


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_it_remembers_survives_a_pause(name):
    changes = [f"method.name={name}", "epochs=6", "noise=[]", *REMEMBERING[name]]
    config = RunConfig.from_plain(apply_overrides(recipe("handwritten").to_plain(), changes))
    whole = Trainer(Setup.build(config))
    whole.train_epoch(Observer())
    state = deepcopy(whole.state_dict())
    expected = whole.train_epoch(Observer())["loss"]
    paused = Trainer(Setup.build(config))
    paused.load_state_dict(state)
    assert paused.train_epoch(Observer())["loss"] == expected


@pytest.mark.parametrize("name", ["ogm-ge", "mmpareto", "qmf", "iprm", "lfm", "pdf", "relearning", "reconboost"])
def test_two_batches_make_the_step_of_one(name, model, batch):
    """What `adjust` sees is that of the whole step; QMF ranks within a batch, so its ranking is left out."""
    inputs, labels = batch
    options = {"ogm-ge": {"noise": False}, "qmf": {"ranking": 0.0}}.get(name, {})
    build = MethodConfig.named(name)(**options).build
    one, two = (build(model, MODALITIES) for _ in range(2))
    two.load_state_dict(one.state_dict())
    for method in (one, two):
        method.sized(ROWS)
    step(one, model, batch)
    whole = gradients(model.encoders["a"]).clone()
    model.zero_grad()
    for half in (slice(0, 6), slice(6, 12)):
        two.meets(torch.arange(ROWS)[half])
        out = two.losses(model, model.encode({m: x[half] for m, x in inputs.items()}), labels[half], None)
        two.backward(model, out.terms, lambda loss: (loss / 2).backward())
    two.adjust(model, alone)
    torch.testing.assert_close(gradients(model.encoders["a"]), whole, rtol=1e-4, atol=1e-7)
    for buffer, other in zip(one.buffers(), two.buffers(), strict=True):
        torch.testing.assert_close(buffer, other)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ogm-ge", {"alpha": -1.0}, r"method\.alpha"),
        ("ogm-ge", {"start": 5, "end": 2}, r"method\.start"),
        ("mmpareto", {"strength": 0.0}, r"method\.strength"),
        ("tmc", {"annealing": 0}, r"method\.annealing"),
        ("ecml", {"conflict": -0.1}, r"method\.conflict"),
        ("qmf", {"ranking": -0.1}, r"method\.ranking"),
        ("iprm", {"decay": 1.0}, r"method\.decay"),
        ("pmr", {"momentum": 1.0}, r"method\.momentum"),
        ("agm", {"alpha": -1.0}, r"method\.alpha"),
        ("mla", {"alpha": 0.0}, r"method\.alpha"),
        ("lfm", {"start": 1.0}, r"method\.start"),
        ("lfm", {"rate": -1.0}, r"method\.rate"),
        ("arl", {"temperature": -1.0}, r"method\.temperature"),
        ("arl", {"unimodal": -1.0}, r"method\.unimodal"),
        ("arl", {"start": -1}, r"method\.start"),
        ("reconboost", {"epochs": 0}, r"method\.epochs"),
        ("reconboost", {"together": -1}, r"method\.together"),
        ("reconboost", {"reconcile": 5.0}, r"method\.reconcile"),
        ("reconboost", {"consolidation": -1.0}, r"method\.consolidation"),
        ("di-mml", {"start": 0}, r"method\.start"),
        ("di-mml", {"shared": -1.0}, r"method\.shared"),
        ("di-mml", {"certainty": 0.0}, r"method\.certainty"),
        ("relearning", {"every": 0}, r"method\.every"),
        ("relearning", {"strength": -1.0}, r"method\.strength"),
        ("smv", {"warmup": 0}, r"method\.warmup"),
        ("smv", {"most": -1}, r"method\.most"),
    ],
)
def test_bad_options(name, options, said):
    with pytest.raises(UserError, match=said):
        MethodConfig.named(name)(**options)
