"""EAU against the eight steps of its source, in numpy and by torch.distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal as Reference
from torch.distributions import kl_divergence
from torch.nn.functional import cosine_similarity, cross_entropy

from cpsc_train.data import Modality
from cpsc_train.methods import eau
from cpsc_train.methods.eau import EAUConfig, Normal, apart, by_uncertainty, contrast, divergence
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig

THREE = ("a", "b", "c")
ROWS, CLASSES, DIM, LATENT = 12, 3, 4, 7


def normal(seed, rows=ROWS):
    draw = torch.Generator().manual_seed(seed)
    return Normal(torch.randn(rows, LATENT, generator=draw), 0.5 * torch.randn(rows, LATENT, generator=draw))


@pytest.fixture(params=[("a", "b"), THREE], ids=len)
def built(request, batch):
    torch.manual_seed(2)
    names = request.param
    vector = Modality(kind="vector", shape=(5,))
    encoders = dict.fromkeys(names, MLPConfig(hidden=6))
    model = MultimodalClassifier(dict.fromkeys(names, vector), encoders, dim=DIM, classes=CLASSES)
    inputs = batch[0] | {"c": batch[0]["a"].flip(0)}
    method = EAUConfig(latent=LATENT, regularisation=0.1, cross=0.2, contrast=0.3).build(model, names)
    return method, model, {m: inputs[m] for m in names}, batch[1]


def test_divergences_are_those_of_normal_distributions():
    a, b = normal(0), normal(1)
    standard = Reference(torch.zeros_like(a.mean), torch.ones_like(a.mean))
    torch.testing.assert_close(divergence(a), kl_divergence(Reference(a.mean, a.v.sqrt()), standard).sum(-1))
    torch.testing.assert_close(
        apart(a, b), kl_divergence(Reference(a.mean, a.v), Reference(b.mean, b.v)).sum(-1), rtol=1e-4, atol=1e-4
    )


def contrast_by_hand(first, second):
    cosines = cosine_similarity(first[:, None], second[None], dim=-1).detach().double().numpy()
    e = np.exp(cosines / 0.5)
    return -np.mean([np.log(e[i, i] / (2 * e[i].sum() - e[i, i])) for i in range(len(e))])


@pytest.mark.parametrize("lacking", [False, True])
def test_contrast_by_hand(lacking):
    one, present = normal(0), torch.arange(ROWS) > 3
    torch.manual_seed(5)
    found = contrast(one, present if lacking else None)
    torch.manual_seed(5)
    draws = [one.mean + one.log.exp() * torch.randn(ROWS, LATENT) for _ in range(2)]
    first, second = (z[present] if lacking else z for z in draws)
    expected = (contrast_by_hand(first, second) + contrast_by_hand(second, first)) / 2
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_weights_of_two_modalities_by_hand():
    a, b = normal(0), normal(1)
    found = by_uncertainty([a, b], torch.ones(2, ROWS, dtype=torch.bool))
    total = a.v.exp() + b.v.exp()
    torch.testing.assert_close(found, torch.stack([b.v.exp() / total * a.mean, a.v.exp() / total * b.mean]))
    given = torch.tensor([[True] * ROWS, [False] * 6 + [True] * 6])
    lacking = by_uncertainty([a, b], given)
    torch.testing.assert_close(lacking[:, 6:], found[:, 6:])
    torch.testing.assert_close(lacking[:, :6], torch.stack([a.mean[:6], torch.zeros(6, LATENT)]))


def fused_by_hand(method, each):
    """Steps 5 and 6, and the fused mean and log, in numpy and with the layers of the method."""
    v = np.stack([np.exp(n.log.detach().double().numpy()) for n in each])
    w = np.exp(-v) / np.exp(-v).sum(0)
    parts = (w * np.stack([n.mean.detach().double().numpy() for n in each])).transpose(1, 0, 2)
    g = parts.mean(-1)
    c = g @ method.gate.weight.detach().double().numpy().T
    joined = torch.tensor((parts * (g + c)[..., None] + parts).sum(1)).float()
    return Normal(method.mean(joined), method.log(joined))


def test_the_objective_by_hand(built, monkeypatch):
    method, model, inputs, labels = built
    monkeypatch.setattr(eau.torch, "randn_like", lambda x: torch.full_like(x, 0.3))
    features = model.encode(inputs)
    out = method.losses(model, features, labels, None)
    each = [Normal(method.means[m](h), method.logs[m](h)) for m, h in features.items()]
    fused = fused_by_hand(method, each)
    torch.testing.assert_close(out.logits[FUSED], method.classifier(fused.mean), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(method.predict(model, features, None)[FUSED], out.logits[FUSED])
    terms = {
        "ce_fused": cross_entropy(method.classifier(fused.mean), labels),
        "ce_draws": 0.1 * cross_entropy(method.of_draws(fused.mean + 0.3 * fused.v), labels),
        "kl": 0.1 * sum(divergence(n).mean() for n in (fused, *each)),
        "cross": 0.2 * sum(apart(each[i], each[j]).mean() for i in range(len(each)) for j in range(i + 1, len(each))),
    }
    draws = [n.mean + 0.3 * n.v for n in each]
    terms["contrast"] = torch.tensor(0.3 * sum(contrast_by_hand(z, z) for z in draws), dtype=torch.float32)
    for name, value in terms.items():
        torch.testing.assert_close(out.terms[name], value, rtol=1e-4, atol=1e-5)
    assert set(out.terms) == {*terms, *(f"head_{m}" for m in features)}


def test_heads_do_not_change_the_encoders(built):
    method, model, inputs, labels = built
    out = method.losses(model, model.encode(inputs), labels, None)
    sum(out.terms[f"head_{m}"] for m in inputs).backward()
    assert all(p.grad is None for p in model.encoders.parameters())
    assert all(p.grad.any() for p in model.heads.parameters())


def test_samples_that_lack_a_modality_are_as_if_it_were_left_out(built):
    method, model, inputs, labels = built
    lacking = {"b": torch.arange(ROWS) % 2 == 0}
    features = model.encode(inputs, lacking)
    found = method.predict(model, features, None, lacking)[FUSED]
    whole = method.predict(model, features, None)[FUSED]
    without = method.predict(model, {m: h for m, h in features.items() if m != "b"}, None)[FUSED]
    torch.testing.assert_close(found[::2], whole[::2])
    torch.testing.assert_close(found[1::2], without[1::2])
    changed = {m: h.clone() for m, h in features.items()}
    changed["b"][1::2] = 1e3
    torch.testing.assert_close(method.predict(model, changed, None, lacking)[FUSED], found)
    torch.manual_seed(0)
    terms = method.losses(model, features, labels, None, lacking).terms
    torch.manual_seed(0)
    again = method.losses(model, changed, labels, None, lacking).terms
    for name, value in terms.items():
        torch.testing.assert_close(again[name], value)
