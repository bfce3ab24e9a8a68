"""Conformal training against numpy: quantiles, sets, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from cpsc_train.methods.conformal_training import ConformalTrainingConfig, rank, reduced_quantile, soft_quantile
from cpsc_train.models import FUSED

MODALITIES = ("a", "b")
ROWS, CLASSES = 12, 3


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("count", [1, 4, 19, 200])
def test_the_rank_is_that_of_split_conformal_prediction(count, alpha):
    scores = torch.randn(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    k = min(count, int(np.ceil(round((count + 1) * (1 - alpha), 9))))
    assert rank(count, alpha) == k
    exact = np.sort(scores.numpy())[k - 1]
    assert soft_quantile(scores, alpha, 1e-9).item() == pytest.approx(exact)
    assert reduced_quantile(scores, alpha, 1e-9).item() == pytest.approx(exact)


def test_the_soft_quantile_is_a_row_of_a_soft_sort():
    scores = np.array([0.3, 1.0, 0.2, 2.5, 0.7])
    matrix = np.exp(-np.abs(np.sort(scores)[:, None] - scores[None]) / 0.4)
    expected = (matrix / matrix.sum(1, keepdims=True)) @ scores
    for alpha, k in ((0.5, 3), (0.4, 4), (0.9, 1)):
        assert soft_quantile(torch.tensor(scores), alpha, 0.4).item() == pytest.approx(expected[k - 1])


def test_the_gradient_of_the_soft_quantile():
    scores = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: soft_quantile(s, 0.2, 0.3), (scores,))


def by_hand(z, labels, alpha, temperature, size):
    """Return the loss of sets of logits (B, C), in numpy."""
    scores = np.log(np.exp(z).sum(1, keepdims=True)) - z
    half = len(z) // 2
    true = np.sort(scores[np.arange(half), labels[:half]])
    threshold = true[rank(half, alpha) - 1]
    sets = 1 / (1 + np.exp(-(threshold - scores[half:]) / temperature))
    left_out = 1 - sets[np.arange(len(sets)), labels[half:]]
    sizes = sets.sum(1)
    return np.log(left_out.mean() + size * np.maximum(sizes - 1, 0).mean() + 1e-8), sizes.mean()


@pytest.mark.parametrize("gradient", ["quantile", "reduced"])
def test_the_loss_by_hand(model, batch, gradient):
    inputs, labels = batch
    config = ConformalTrainingConfig(
        alpha=0.3, temperature=0.5, size=0.7, gradient=gradient, width=1e-6, cross_entropy=0.0, unimodal=2.0
    )
    out = config.build(model, MODALITIES).losses(model, model.encode(inputs), labels, None)
    logits = model(inputs)
    loss, size = by_hand(logits[FUSED].detach().double().numpy(), labels.numpy(), 0.3, 0.5, 0.7)
    assert out.terms["sets"].item() == pytest.approx(loss, rel=1e-5)
    assert out.diagnostics["soft_set_size"].item() == pytest.approx(size, rel=1e-5)
    torch.testing.assert_close(out.terms["ce_a"], 2 * cross_entropy(logits["a"], labels))
    assert set(out.terms) == {"sets", "ce_a", "ce_b"}


def test_the_reduced_gradient_of_the_threshold_is_a_mean():
    scores = torch.tensor([0.0, 1.0, 1.2, 1.4, 5.0], requires_grad=True)
    threshold = reduced_quantile(scores, 0.5, 0.25)  # the third smallest, and two within .25 of it
    assert threshold.item() == pytest.approx(1.2)
    (gradient,) = torch.autograd.grad(threshold, scores)
    assert gradient.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0])


def test_it_shrinks_sets(model, batch, step):
    """Sets become smaller by their loss alone, also those of rows that were calibration rows."""
    method = ConformalTrainingConfig(cross_entropy=0.0, unimodal=0.0, alpha=0.3, temperature=0.5).build(
        model, MODALITIES
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    found = []
    for _ in range(150):
        found.append(step(method, model, batch).diagnostics["soft_set_size"].item())
        optimizer.step()
    assert found[-1] < 0.7 * found[0]
    assert (model(batch[0])[FUSED].argmax(-1) == batch[1]).float().mean() > 0.7


@pytest.mark.parametrize("rows", [1, 2])
def test_batches_of_one_and_two(model, batch, rows):
    inputs, labels = batch
    method = ConformalTrainingConfig().build(model, MODALITIES)
    out = method.losses(model, model.encode({m: x[:rows] for m, x in inputs.items()}), labels[:rows], None)
    sum(out.terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.encoders.parameters())
    assert (out.terms["sets"].item() == 0) == (rows == 1)
