"""Methods with a fusion of their own, against their equations by hand, and where they divide by 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln
from torch.nn.functional import cross_entropy, margin_ranking_loss, normalize, softplus

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig, Range
from cpsc_train.methods.evidential import conflict, dempster, divergence_from_ignorance, evidential_loss, mean_evidence
from cpsc_train.methods.iprm import IPRMConfig, slerp
from cpsc_train.methods.pdf import PDFConfig, relative_calibration, shared_confidence
from cpsc_train.methods.qmf import QMFConfig, energy, normalised, ranking_loss
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig

MODALITIES = ("a", "b")
ROWS, CLASSES, DIM = 12, 3, 4


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


@pytest.mark.parametrize("modalities", [("a", "b"), ("a", "b", "c")])
def test_ecml_averages_the_losses_of_all_heads_and_the_evidence(modalities, alone):
    """The loss of the source, in numpy and one sample at a time."""
    torch.manual_seed(3)
    vector = Modality(kind="vector", shape=(5,))
    encoders = dict.fromkeys(modalities, MLPConfig(hidden=6))
    three = MultimodalClassifier(dict.fromkeys(modalities, vector), encoders, dim=DIM, classes=CLASSES)
    method = MethodConfig.named("ecml")(annealing=10, conflict=0.7).build(three, modalities)
    method.on_epoch_start(3, alone)
    labels = torch.arange(ROWS) % CLASSES
    features = three.encode({m: torch.randn(ROWS, 5) for m in modalities})
    z = {m: three.heads[m](h).detach().double().numpy() for m, h in features.items()}
    evidence = {m: np.log1p(np.exp(x)) for m, x in z.items()}
    alphas = {m: e + 1 for m, e in evidence.items()} | {FUSED: sum(evidence.values()) / len(modalities) + 1}

    def loss(alpha):
        each = []
        for a, y in zip(alpha, labels.numpy(), strict=True):
            rest = a.copy()
            rest[y] = 1
            s = rest.sum()
            kl = gammaln(s) - gammaln(rest).sum() - gammaln(CLASSES) + ((rest - 1) * (digamma(rest) - digamma(s))).sum()
            each.append(digamma(a.sum()) - digamma(a[y]) + 0.3 * kl)
        return np.mean(each)

    expected = sum(loss(a) for a in alphas.values()) / (len(modalities) + 1)
    for i in modalities:
        for j in modalities:
            p, q = (alphas[m] / alphas[m].sum(1, keepdims=True) for m in (i, j))
            u, v = (CLASSES / alphas[m].sum(1) for m in (i, j))
            apart = 0.5 * np.abs(p - q).sum(1) * (1 - u) * (1 - v)
            expected += 0.7 * apart.mean() / (len(modalities) - 1)
    found = sum(method.losses(three, features, labels, None).terms.values())
    assert found.item() == pytest.approx(float(expected), rel=1e-4)
    decision = method.predict(three, features, None)[FUSED].exp().detach().numpy()
    np.testing.assert_allclose(decision, alphas[FUSED] / alphas[FUSED].sum(1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("name", ["tmc", "ecml"])
def test_annealing_takes_a_tenth_of_the_run(name):
    """50 of 500 epochs in the sources."""
    config = MethodConfig.named(name)
    assert [config.for_epochs(epochs).annealing for epochs in (500, 40, 20, 3)] == [50, 4, 2, 1]
    assert config.search["annealing"].for_epochs(20) == Range(1, 50, log=True)


def test_evidence_is_a_probability_and_is_annealed(model, batch, alone):
    inputs, labels = batch
    method = MethodConfig.named("tmc")(annealing=10).build(model, MODALITIES)
    features = model.encode(inputs)
    alphas = [softplus(model.heads[m](features[m])) + 1 for m in MODALITIES]
    expected = dempster(alphas)
    found = method.predict(model, features, None)
    torch.testing.assert_close(found[FUSED].softmax(-1), expected / expected.sum(-1, keepdim=True))
    torch.testing.assert_close(found["a"].exp().sum(-1), torch.ones(ROWS))
    for epoch, share in ((0, 0.0), (4, 0.4), (30, 1.0)):
        method.on_epoch_start(epoch, alone)
        terms = method.losses(model, features, labels, None).terms
        torch.testing.assert_close(terms["evidence_fused"], evidential_loss(expected, labels, torch.tensor(share)))
    assert set(method.predict(model, {"a": features["a"]}, None)) == {"a", FUSED}


# QMF


def test_ranking_by_hand():
    confidence, hard = torch.tensor([0.5, 0.2, 0.4]), torch.tensor([1.0, 0.25, 0.25])
    # The harder of two should be the less confident: .3 + .75; equally hard: 0; −(.4 − .5) + .75.
    assert float(ranking_loss(confidence, hard)) == pytest.approx((1.05 + 0 + (0.1 + 0.75)) / 3)
    assert float(ranking_loss(torch.tensor([-1.0, 1.0]), torch.tensor([1.0, 0.0]))) == 0
    # torch's own loss, as the released code calls it: the margin is added to the second input.
    target, margin = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([0.75, 0.0, 0.75])
    second = confidence.roll(-1) + margin / torch.where(target == 0, 1.0, target)
    released = margin_ranking_loss(confidence, second, -target)
    torch.testing.assert_close(ranking_loss(confidence, hard, margin="released"), released)
    assert float(released) == pytest.approx(0.0)
    assert float(ranking_loss(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.5]), margin="released")) == 1.5


def test_qmf_weighs_by_energy_and_remembers_losses(model, batch, step):
    inputs, labels = batch
    method = QMFConfig(ranking=0.5).build(model, MODALITIES)
    method.on_fit_start(20)
    first = step(method, model, batch, rows=torch.arange(4, 16))
    assert first.terms["ranking_a"].item() == 0  # 0/0: nobody has a history yet
    features = model.encode(inputs)
    z = {m: model.heads[m](features[m]) for m in MODALITIES}
    fused = sum(0.1 * z[m].logsumexp(-1, keepdim=True) * z[m] for m in MODALITIES)
    torch.testing.assert_close(method.predict(model, features, None)[FUSED], fused)
    expected = torch.zeros(2, 20)
    for place, m in enumerate(MODALITIES):
        expected[place, 4:16] = cross_entropy(z[m], labels, reduction="none").detach()
    torch.testing.assert_close(method.history.values, expected)
    second = step(method, model, batch, rows=torch.arange(4, 16))
    hard = normalised(expected, expected.amin(1), expected.amax(1))[0, 4:16]
    torch.testing.assert_close(second.terms["ranking_a"], 0.5 * ranking_loss(energy(z["a"]), hard))
    torch.testing.assert_close(method.history.values, 2 * expected)


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


def test_iprm_probes_with_the_average_and_rebalances_by_the_batch(model, batch, step):
    inputs, labels = batch
    method = IPRMConfig(decay=0.8).build(model, MODALITIES)
    with torch.no_grad():
        method.weight.fill_(0.3)
    features = model.encode(inputs)

    def mix(share):
        a, b = (normalize(features[m], dim=-1) for m in MODALITIES)
        angle = (a * b).sum(-1, keepdim=True).acos()
        return ((share * angle).sin() * a + ((1 - share) * angle).sin() * b) / angle.sin()

    probe, kl = method.head(mix(0.3)), {}
    for m in MODALITIES:
        p, q = model.heads[m](features[m]).log_softmax(-1), probe.log_softmax(-1)
        kl[m] = (p.exp() * (p - q)).sum(-1).mean().item()
    share = kl["b"] / (kl["a"] + kl["b"])
    mixed = method.head(mix(share))
    out = step(method, model, batch)
    assert float(method.weight) == pytest.approx(0.8 * 0.3 + 0.2 * share, rel=1e-5)
    tested = method.predict(model, features, None)[FUSED]
    average = method.head(mix(float(method.weight)))
    torch.testing.assert_close(tested, sum(model.heads[m](features[m]) for m in MODALITIES) + average)
    torch.testing.assert_close(
        out.logits[FUSED], model.heads["a"](features["a"]) + model.heads["b"](features["b"]) + mixed
    )
    torch.testing.assert_close(out.terms["ce_mixed"], cross_entropy(mixed, labels))
    with pytest.raises(UserError, match="iprm mixes two modalities, got 3: a, b, c"):
        IPRMConfig().build(model, ("a", "b", "c"))


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


def test_pdf_learns_the_probability_of_the_true_class(model, batch, step):
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


@pytest.mark.parametrize(("name", "other"), [("pdf", "ce_fused"), ("iprm", "ce_mixed")])
def test_the_weight_of_the_modalities(name, other, model, batch, step):
    one, half = (MethodConfig.named(name)(unimodal=weight).build(model, MODALITIES) for weight in (1.0, 0.5))
    half.load_state_dict(one.state_dict())
    plain, weighed = (step(method, model, batch).terms for method in (one, half))
    for m in MODALITIES:
        torch.testing.assert_close(weighed[f"ce_{m}"], 0.5 * plain[f"ce_{m}"])
    torch.testing.assert_close(weighed[other], plain[other])
