"""Weights of training rows in joint + unimodal training."""

from __future__ import annotations

import pytest
import torch

from cpsc_train.data.row_weights import write_row_weights
from cpsc_train.methods import MethodConfig
from cpsc_train.models import FUSED

MODALITIES = ("a", "b")
ROWS = 12
IDS = [f"row {i}" for i in range(ROWS)]


@pytest.fixture
def weighted(tmp_path, model):
    def build(weights):
        path = tmp_path / "weights.csv"
        write_row_weights(path, IDS, ["x"] * ROWS, weights)
        method = MethodConfig.named("joint-unimodal")(weights=str(path)).build(model, MODALITIES)
        method.row_ids = IDS
        method.on_fit_start(ROWS)
        return method

    return build


def test_a_weight_of_zero_leaves_the_row_out_and_two_counts_it_twice(weighted, model, batch, step, gradients):
    """A batch of 12 rows with weights 2 and 0 has the gradient of the batch in which the other half replaces them."""
    twice = torch.arange(ROWS) < ROWS // 2
    weights = torch.where(twice, 2.0, 0.0).numpy()
    method = weighted(dict.fromkeys((*MODALITIES, FUSED), weights))
    step(method, model, batch)
    found = gradients(model).clone()
    inputs, labels = batch
    kept = torch.cat([torch.arange(ROWS // 2)] * 2)
    plain = MethodConfig.named("joint-unimodal")().build(model, MODALITIES)
    step(plain, model, ({m: x[kept] for m, x in inputs.items()}, labels[kept]))
    torch.testing.assert_close(found, gradients(model))


def test_only_the_listed_heads_are_weighted_and_rows_are_looked_up(weighted, model, batch, step):
    weights = torch.arange(ROWS).float() + 1
    method = weighted({"a": weights.numpy(), "b": torch.ones(ROWS).numpy()})
    rows = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    terms = step(method, model, batch, rows=rows).terms
    plain = step(MethodConfig.named("joint-unimodal")().build(model, MODALITIES), model, batch).terms
    inputs, labels = batch
    logits = model.classify(model.encode(inputs))["a"]
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(terms["ce_a"], (losses * (weights / weights.mean())[rows]).mean())
    for name in ("ce_b", "ce_fused"):
        torch.testing.assert_close(terms[name], plain[name])


def test_rows_that_lack_the_modality_do_not_count(weighted, model, batch, step):
    present = {"a": torch.arange(ROWS) % 3 > 0}
    weights = torch.rand(ROWS, generator=torch.Generator().manual_seed(0)) + 0.1
    method = weighted({"a": weights.numpy(), "b": weights.numpy()})
    terms = step(method, model, batch, present=present).terms
    logits = model.classify(model.encode(batch[0], present), present)["a"]
    losses = torch.nn.functional.cross_entropy(logits, batch[1], reduction="none")
    expected = (losses * method.row_weights()["a"])[present["a"]].mean()
    torch.testing.assert_close(terms["ce_a"], expected)
