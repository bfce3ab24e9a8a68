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
from cpsc_train.methods import MethodConfig
from cpsc_train.methods.evidential import conflict, dempster, divergence_from_ignorance, evidential_loss, mean_evidence
from cpsc_train.methods.iprm import IPRMConfig, slerp
from cpsc_train.methods.mmpareto import MMParetoConfig, combine
from cpsc_train.methods.ogm_ge import OGMGEConfig, coefficients
from cpsc_train.methods.pmr import PMRConfig
from cpsc_train.methods.qmf import QMFConfig, energy, normalised, ranking_loss
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.mlp import MLPConfig
from cpsc_train.observability import Observer
from cpsc_train.recipes import recipe
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

MODALITIES = ("a", "b")
ROWS, CLASSES, DIM = 12, 3, 4
COMPARED = ("ogm-ge", "mmpareto", "tmc", "ecml", "qmf", "iprm", "pmr")


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
    """One step without an optimizer; gradients are those that it would be given."""
    inputs, labels = batch
    model.zero_grad()
    method.meets(torch.arange(ROWS) if rows is None else rows)
    out = method.losses(model, model.encode(inputs), labels, None)
    method.backward(model, out.terms, lambda loss: loss.backward())
    method.adjust(model, alone)
    return out


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


# All


@pytest.mark.parametrize("name", COMPARED)
def test_probabilities_of_nought_and_one(name, model, batch):
    with torch.no_grad():
        for head in model.heads.values():
            head.weight.mul_(1e4)
    method = MethodConfig.named(name)().build(model, MODALITIES)
    method.sized(ROWS)
    for epoch in range(3):
        method.starts_epoch(epoch, alone)
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


@pytest.mark.parametrize("name", ["ogm-ge", "qmf", "iprm", "pmr", "tmc"])
def test_what_it_remembers_survives_a_pause(name):
    changes = [f"method.name={name}", "epochs=6", "noise=[]"]
    config = RunConfig.from_plain(apply_overrides(recipe("handwritten").to_plain(), changes))
    whole = Trainer(Setup.build(config))
    whole.train_epoch(Observer())
    state = deepcopy(whole.state_dict())
    expected = whole.train_epoch(Observer())["loss"]
    paused = Trainer(Setup.build(config))
    paused.load_state_dict(state)
    assert paused.train_epoch(Observer())["loss"] == expected


@pytest.mark.parametrize("name", ["ogm-ge", "mmpareto", "qmf", "iprm"])
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
    ],
)
def test_bad_options(name, options, said):
    with pytest.raises(UserError, match=said):
        MethodConfig.named(name)(**options)
