"""Methods that follow epochs or look at whole parts of the data, against their equations by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from cpsc_train.methods import PartFeatures
from cpsc_train.methods.base import zeroed
from cpsc_train.methods.di_mml import DIMMLConfig, by_certainty
from cpsc_train.methods.reconboost import ReconBoostConfig
from cpsc_train.methods.relearning import RelearningConfig, purity
from cpsc_train.methods.smv import SMVConfig, copies_of, values_of
from cpsc_train.models import FUSED

MODALITIES = ("a", "b")
ROWS, CLASSES, DIM = 12, 3, 4


# ReconBoost


def test_reconboost_stages(model, batch, step, alone):
    inputs, labels = batch
    method = ReconBoostConfig(epochs=2, together=1, consolidation=0.5).build(model, MODALITIES)
    features = model.encode(inputs)
    z = {m: model.heads[m](features[m]).detach() for m in MODALITIES}
    p = {m: s.softmax(-1) for m, s in z.items()}
    own = {m: cross_entropy(s, labels, reduction="none") for m, s in z.items()}

    method.on_epoch_start(0, alone)
    out = step(method, model, batch)  # nobody is there yet, so that the others say 1/C
    torch.testing.assert_close(out.terms["boosting"], ((5 - 1 / CLASSES) * own["a"]).mean() / CLASSES)
    assert set(out.terms) == {"boosting"}
    assert all(p.grad is None for p in model.encoders["b"].parameters())
    torch.testing.assert_close(method.predict(model, features, None)[FUSED], z["a"])
    torch.testing.assert_close(method.predict(model, {"b": features["b"]}, None)[FUSED], z["b"])

    method.on_epoch_start(2, alone)
    assert set(step(method, model, batch).terms) == {"ce_fused"}

    method.on_epoch_start(3, alone)
    out = step(method, model, batch)
    right = p["a"][torch.arange(ROWS), labels]
    torch.testing.assert_close(out.terms["boosting"], ((5 - right) * own["b"]).mean() / CLASSES)
    torch.testing.assert_close(out.terms["consolidation"], 0.5 * (p["b"] - p["a"]).square().mean())
    assert all(p.grad is None or not p.grad.any() for p in model.encoders["a"].parameters())
    with torch.no_grad():
        method.rate.fill_(0.5)
    torch.testing.assert_close(method.predict(model, features, None)[FUSED], 0.5 * (z["a"] + z["b"]))

    method.on_epoch_start(5, alone)
    step(method, model, batch)
    assert method.rate.grad is not None
    method.on_epoch_start(6, alone)
    assert set(step(method, model, batch).terms) == {"boosting", "consolidation"}


# DI-MML


def test_di_mml_teaches_along_what_one_alone_knows(model, batch, step):
    inputs, labels = batch
    method = DIMMLConfig(start=3, temperature=0.5, shared=2.0).build(model, MODALITIES)
    assert [method.features_needed(epoch) for epoch in (2, 3, 4)] == [(), ("train",), ()]
    before = step(method, model, batch)
    assert before.terms["contrast"].item() == 0
    features = {m: h.detach() for m, h in model.encode(inputs).items()}
    torch.testing.assert_close(before.terms["shared_a"], 2 * cross_entropy(method.shared(features["a"]), labels))

    known = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)
    clear = labels[:, None].numpy() + np.zeros((1, DIM))
    noise = np.random.default_rng(0).standard_normal((ROWS, DIM))
    shown = {m: np.where(row.numpy(), clear, noise).astype(np.float32) for m, row in zip("ab", known, strict=True)}
    method.on_features(model, {"train": PartFeatures(shown, labels.numpy())})
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
    asked = [epoch for epoch in range(20) if method.features_needed(epoch)]
    assert asked == [5, 9]  # after the epochs 4 and 8, counted from 0
    start = {name: p.detach().clone() for name, p in model.encoders.named_parameters()}
    with torch.no_grad():
        for p in model.encoders.parameters():
            p.add_(1.0)
    labels = np.arange(30) % CLASSES
    clear = np.eye(CLASSES, DIM, dtype=np.float32)[labels]
    same = np.zeros((30, DIM), np.float32)
    parts = {
        "train": PartFeatures({"a": clear, "b": clear}, labels),
        "validation": PartFeatures({"a": clear, "b": same}, labels),
    }
    method.on_features(model, parts)
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


def test_smv_shows_a_weak_modality_alone(model, batch, step):
    inputs, labels = batch
    method = SMVConfig(warmup=2).build(model, MODALITIES)
    method.on_fit_start(ROWS)
    assert [method.features_needed(epoch) for epoch in (1, 2, 3)] == [(), ("train",), ("train",)]
    first = step(method, model, batch)
    torch.testing.assert_close(first.terms["ce_fused"], cross_entropy(model(inputs)[FUSED], labels))
    assert first.terms["alone_a"].item() == 0
    features = {m: h.detach() for m, h in model.encode(inputs).items()}
    method.on_features(model, {"train": PartFeatures({m: h.numpy() for m, h in features.items()}, labels.numpy())})
    copies = copies_of(values_of(model, features, labels, MODALITIES), 3)
    torch.testing.assert_close(method.copies.values, copies)
    out = step(method, model, batch)
    whole = 1 + copies.sum(0).mean()
    each = cross_entropy(zeroed(model, features, {"b"}), labels, reduction="none")
    torch.testing.assert_close(out.terms["alone_b"], (copies[1] * each).mean() / whole)
    torch.testing.assert_close(out.terms["ce_fused"], first.terms["ce_fused"] / whole)
