"""Discounted belief fusion against loops in numpy."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from cpsc_train.methods.dbf import DBFConfig, discounted
from cpsc_train.methods.evidential import ECMLConfig, conflict, evidential_loss
from cpsc_train.models import FUSED

MODALITIES = ("a", "b")
CLASSES = 3


def by_hand(alphas, exponent):
    """Return the α of the decision of one sample."""
    evidence = np.zeros(CLASSES)
    for i, alpha in enumerate(alphas):
        strength = alpha.sum()
        b, u, discount = (alpha - 1) / strength, CLASSES / strength, 1.0
        for j, other in enumerate(alphas):
            if i != j:
                apart = np.abs(alpha / strength - other / other.sum()).sum() / 2
                sure = (1 - u) * (1 - CLASSES / other.sum())
                discount *= (1 - (apart * sure) ** exponent) ** (1 / exponent)
        b, u = discount * b, discount * u + 1 - discount
        assert b.sum() + u == pytest.approx(1)
        evidence += CLASSES * b / u / len(alphas)
    return evidence + 1


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_discounted_opinions_by_hand(exponent):
    draw = np.random.default_rng(0)
    alphas = 1 + draw.exponential(5.0, (3, 6, CLASSES))
    found = discounted([torch.tensor(a) for a in alphas], exponent)
    expected = np.stack([by_hand(alphas[:, i], exponent) for i in range(6)])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    for order in permutations(range(3)):
        again = discounted([torch.tensor(alphas[i]) for i in order], exponent)
        np.testing.assert_allclose(again.numpy(), expected, rtol=1e-9)


def test_conflict_makes_uncertain_and_agreement_does_not():
    sure, other = torch.tensor([[41.0, 1.0, 1.0]]), torch.tensor([[1.0, 41.0, 1.0]])
    torch.testing.assert_close(discounted([sure, sure], 1.0), sure)
    assert discounted([sure, other], 1.0).sum() < 0.2 * sure.sum()
    nothing = torch.ones(1, CLASSES)  # does not conflict, and adds no evidence
    torch.testing.assert_close(discounted([sure, nothing], 1.0), 1 + (sure - 1) / 2)


def test_gradients_are_finite_at_the_ends():
    for exponent in (0.5, 1.0, 3.0):
        one = torch.tensor([[1e9, 1.0, 1.0], [1.0, 1.0, 1.0], [5.0, 2.0, 1.0]], requires_grad=True)
        other = torch.tensor([[1.0, 1e9, 1.0], [1e9, 1.0, 1.0], [5.0, 2.0, 1.0]])
        discounted([one, other], exponent).log().sum().backward()
        assert torch.isfinite(one.grad).all()


def test_the_losses_are_those_of_ecml_with_another_fusion(model, batch):
    inputs, labels = batch
    method, plain = (kind(annealing=4, conflict=0.5).build(model, MODALITIES) for kind in (DBFConfig, ECMLConfig))
    features = model.encode(inputs)
    for one in (method, plain):
        one.on_epoch_start(1, lambda x: x)
    found, reference = (one.losses(model, features, labels, None).terms for one in (method, plain))
    alphas = method.dirichlet(model, features)
    torch.testing.assert_close(alphas[FUSED], discounted([alphas["a"], alphas["b"]], 1.0))
    for name in ("evidence_a", "evidence_b", "conflict"):
        torch.testing.assert_close(found[name], reference[name])
    expected = evidential_loss(alphas[FUSED], labels, torch.tensor(0.25)) / 3
    torch.testing.assert_close(found["evidence_fused"], expected)
    torch.testing.assert_close(found["conflict"], 0.5 * conflict([alphas["a"], alphas["b"]]))
