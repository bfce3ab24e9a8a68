"""Modality dropout, DGL, MNL and InfoReg against their equations by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from cpsc_train.data import Modality
from cpsc_train.methods.dgl import DGLConfig
from cpsc_train.methods.inforeg import InfoRegConfig, growth, strength
from cpsc_train.methods.mnl import MNLConfig
from cpsc_train.methods.modality_dropout import ModalityDropoutConfig, drawn
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig
from cpsc_train.models.fusion import ConcatConfig

MODALITIES, THREE = ("a", "b"), ("a", "b", "c")
ROWS, CLASSES, DIM = 12, 3, 4


@pytest.fixture
def three(batch):
    """A model of three modalities with a fusion of its own, and a batch."""
    torch.manual_seed(1)
    vector = Modality(kind="vector", shape=(5,))
    encoders = dict.fromkeys(THREE, MLPConfig(hidden=6))
    model = MultimodalClassifier(
        dict.fromkeys(THREE, vector), encoders, fusion=ConcatConfig(), dim=DIM, classes=CLASSES
    )
    return model, (batch[0] | {"c": batch[0]["a"].flip(0)}, batch[1])


# Modality dropout


def test_a_modality_is_dropped_with_its_probability_and_never_all():
    torch.manual_seed(0)
    many = 40_000
    features = {m: torch.zeros(many, 1) for m in THREE}
    has = torch.rand(many) < 0.5
    kept = torch.stack(list(drawn(features, {"c": has}, 0.4).values())).numpy()
    assert kept.any(0).all()
    assert not kept[2, ~has.numpy()].any()
    for rows, count in ((has.numpy(), 3), (~has.numpy(), 2)):
        # Dropped unless all are, in which case one of them is restored.
        dropped = 0.4 - 0.4**count / count
        found = 1 - kept[:count, rows].mean(1)
        np.testing.assert_allclose(found, dropped, atol=5 * np.sqrt(0.24 / rows.sum()))
        # Draws of different modalities are independent but for the restored ones.
        np.testing.assert_allclose(kept[:count, rows].all(0).mean(), 0.6**count, atol=0.015)


def test_dropped_modalities_are_as_if_a_sample_had_none(three):
    model, (inputs, labels) = three
    method = ModalityDropoutConfig(probability=0.5).build(model, THREE)
    features = model.encode(inputs)
    present = {"b": torch.arange(ROWS) % 3 > 0}
    torch.manual_seed(3)
    out = method.losses(model, features, labels, None, present)
    torch.manual_seed(3)
    kept = drawn(features, present, 0.5)
    assert 0 < sum(int(k.sum()) for k in kept.values()) < 3 * ROWS
    shown = torch.cat([features[m] * kept[m][:, None] for m in THREE], -1)
    torch.testing.assert_close(out.terms["ce_fused"], cross_entropy(model.fusion.head(shown), labels))
    for m in THREE:
        rows = kept[m]
        torch.testing.assert_close(out.terms[f"ce_{m}"], cross_entropy(model.heads[m](features[m][rows]), labels[rows]))


def test_without_dropout_it_is_joint_and_unimodal_training(model, batch):
    inputs, labels = batch
    out = (
        ModalityDropoutConfig(probability=0.0)
        .build(model, MODALITIES)
        .losses(model, model.encode(inputs), labels, None)
    )
    for head, z in model(inputs).items():
        torch.testing.assert_close(out.terms[f"ce_{head}"], cross_entropy(z, labels))


# DGL


def test_dgl_separates_the_gradients(three, step, gradients):
    model, batch = three
    inputs, labels = batch
    step(DGLConfig(alpha=3.0).build(model, THREE), model, batch)
    found = {m: gradients(model.encoders[m]).clone() for m in THREE}
    fusion = gradients(model.fusion).clone()
    logits = model(inputs)
    for m in THREE:
        unimodal = torch.autograd.grad(
            3 * cross_entropy(logits[m], labels), list(model.encoders[m].parameters()), retain_graph=True
        )
        torch.testing.assert_close(found[m], torch.cat([g.flatten() for g in unimodal]))
    fused = torch.autograd.grad(cross_entropy(logits[FUSED], labels), list(model.fusion.parameters()))
    torch.testing.assert_close(fusion, torch.cat([g.flatten() for g in fused]))


# MNL


def negative_by_hand(z, fused, labels, strong, weak, weight):
    """Return the loss of one sample after another, by loops."""
    losses = []
    for i, y in enumerate(labels):
        wrong = max((j for j in range(CLASSES) if j != y), key=lambda j: fused[i][j])
        p = {m: np.exp(z[m][i]) / np.exp(z[m][i]).sum() for m in z}
        margin = {m: z[m][i][y] - z[m][i][wrong] for m in z}
        if margin[strong] > margin[weak] and p[strong][y] > p[weak][y]:
            loss = -np.log(p[weak][y])
            loss -= weight * sum(p[strong][j] * np.log(p[weak][j]) for j in range(CLASSES) if j != y)
            losses.append(loss / CLASSES)
        else:
            losses.append(0.0)
    return np.array(losses)


def test_mnl_by_hand(model, batch, step, gradients):
    inputs, labels = batch
    method = MNLConfig(weight=0.4).build(model, MODALITIES)
    out = step(method, model, batch)
    z = {head: x.detach().double().numpy() for head, x in model(inputs).items()}
    fused = z.pop(FUSED)
    for strong, weak in (("a", "b"), ("b", "a")):
        expected = negative_by_hand(z, fused, labels.tolist(), strong, weak, 0.4)
        assert (expected > 0).any()
        assert out.terms[f"negative_{weak}"].item() == pytest.approx(expected.mean(), rel=1e-5)
    # The strong modality has no gradient from the loss of the weak one.
    model.zero_grad()
    method.losses(model, model.encode(inputs), labels, None).terms["negative_b"].backward()
    assert all(p.grad is None for p in model.encoders["a"].parameters())
    assert gradients(model.encoders["b"]).any()


def test_mnl_of_three_modalities_and_of_samples_that_lack_one(three):
    model, (inputs, labels) = three
    present = {"c": torch.arange(ROWS) > 2}
    method = MNLConfig(weight=1.0).build(model, THREE)
    features = model.encode(inputs, present)
    out = method.losses(model, features, labels, None, present)
    z = {head: x.detach().double().numpy() for head, x in model.classify(features, present).items()}
    fused = z.pop(FUSED)
    for weak in THREE:
        means = []
        for strong in set(THREE) - {weak}:
            rows = present["c"].numpy() if "c" in (strong, weak) else np.ones(ROWS, dtype=bool)
            means.append(negative_by_hand(z, fused, labels.tolist(), strong, weak, 1.0)[rows].mean())
        assert out.terms[f"negative_{weak}"].item() == pytest.approx(sum(means) / 2, rel=1e-5)


# InfoReg


def test_the_leading_modality_alone_is_held_back():
    found = strength(torch.tensor([1.0, 5.0, 4.0]))
    assert found.tolist() == pytest.approx([0, np.exp(np.tanh(5 - 2.5)), 0])
    assert strength(torch.tensor([2.0, 2.0])).tolist() == [0, 0]
    assert growth(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])).tolist() == pytest.approx([1 - 1.5 / 2.5, 0])


def test_inforeg_by_hand(model, batch, step, alone):
    inputs, labels = batch
    method = InfoRegConfig(strength=0.5, window=2, growth=0.05).build(model, MODALITIES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    traces = {m: [0.0, 0.0] for m in MODALITIES}
    held = []
    for epoch in range(5):
        method.on_epoch_start(epoch, alone)
        start = {m: [p.detach().clone() for p in model.encoders[m].parameters()] for m in MODALITIES}
        growing = {}
        for m, past in traces.items():
            new, old = np.mean(past[-2:]), np.mean(past[-3:-1])
            growing[m] = epoch == 0 or (new - old) / new > 0.05
        sums = dict.fromkeys(MODALITIES, 0.0)
        for _ in range(2):
            logits = model(inputs)
            loss = sum(cross_entropy(z, labels) for z in logits.values())
            plain = {
                m: torch.autograd.grad(loss, list(model.encoders[m].parameters()), retain_graph=True) for m in traces
            }
            s = {m: float(logits[m].detach().softmax(-1)[torch.arange(ROWS), labels].sum()) for m in MODALITIES}
            step(method, model, batch)
            for m, other in (("a", "b"), ("b", "a")):
                factor = 0.5 * np.exp(np.tanh(s[m] - s[other])) if s[m] > s[other] and growing[m] else 0.0
                held.append(factor)
                pairs = zip(model.encoders[m].parameters(), plain[m], start[m], strict=True)
                for p, g, begin in pairs:
                    torch.testing.assert_close(p.grad, g + factor * (p.detach() - begin), rtol=1e-4, atol=1e-6)
                sums[m] += sum(float(g.square().mean()) for g in plain[m] if g.ndim == 2)
            optimizer.step()
        for m in MODALITIES:
            traces[m].append(sums[m])
    assert 0 < np.count_nonzero(held) < len(held) / 2  # one is ahead, and stops to grow


def test_inforeg_goes_on_within_an_epoch(model, batch, step, alone):
    """An interruption does not move the start of the epoch."""
    method = InfoRegConfig(window=1).build(model, MODALITIES)
    method.on_epoch_start(0, alone)
    step(method, model, batch)
    begin = {name: p.clone() for name, p in method.start.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1)
    again = InfoRegConfig(window=1).build(model, MODALITIES)
    again.load_state_dict(method.state_dict())
    again.on_epoch_start(0, alone)
    step(again, model, batch)
    for name, p in again.start.named_parameters():
        assert torch.equal(p, begin[name])
    again.on_epoch_start(1, alone)
    step(again, model, batch)
    for name, p in again.start.named_parameters():
        assert torch.equal(p, dict(model.encoders.named_parameters())[name])
