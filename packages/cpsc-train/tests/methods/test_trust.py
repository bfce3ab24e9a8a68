"""Weights of training rows, on features whose p-values are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cpsc_train.methods import PartFeatures
from cpsc_train.methods.cpsc import CPSCConfig
from cpsc_train.methods.cpsc.method import RowTrust
from cpsc_train.models import FUSED

MODALITIES = ("a", "b")
ROWS, CLASSES, DIM = 12, 3, 4


def part(rows, seed):
    """Features that show the class along one axis."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % CLASSES
    features = {m: generator.normal(size=(rows, DIM)).astype(np.float32) + 6 * np.eye(DIM)[labels] for m in MODALITIES}
    return PartFeatures({m: h.astype(np.float32) for m, h in features.items()}, labels)


class _Reads:
    """A model whose features are the logits."""

    heads = nn.Linear(1, 1)

    def classify(self, features, present):
        return {FUSED: features["a"]}


@pytest.fixture
def knowing(model):
    """Heads that read the class off the features."""
    with torch.no_grad():
        for head in model.heads.values():
            head.weight.copy_(torch.eye(CLASSES, DIM))
            head.bias.zero_()
    return model


@pytest.mark.parametrize("in_calibration", [0, 50])
def test_wrong_labels_are_left_out_whether_calibration_labels_are_right_or_not(knowing, in_calibration):
    train, calibration = part(400, 0), part(200, 1)
    wrong = np.zeros(400, dtype=bool)
    wrong[:100] = True
    train.labels[wrong] = (train.labels[wrong] + 1) % CLASSES
    calibration.labels[:in_calibration] = (calibration.labels[:in_calibration] + 1) % CLASSES
    trust = RowTrust(MODALITIES, 400)
    trust.on_features(knowing, train, calibration)
    for of in trust.weights().values():
        left_out = of.numpy() == 0
        assert left_out[wrong].mean() > 0.95
        assert left_out[~wrong].mean() < 0.05
        assert of.mean() == pytest.approx(1)


def test_a_label_less_conforming_than_all_of_calibration_is_left_out_by_a_head_that_is_never_wrong(knowing):
    train, calibration = part(40, 0), part(40, 1)
    train.labels[0] = (train.labels[0] + 1) % CLASSES
    trust = RowTrust(MODALITIES, 40)
    trust.on_features(knowing, train, calibration)
    left_out = np.flatnonzero(trust.weights()[FUSED].numpy() == 0).tolist()
    assert 0 in left_out
    assert len(left_out) <= 3  # of exchangeable rows 1 in 41 is


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_few_good_rows_are_left_out(seed):
    """Of exchangeable rows P(left out) ≤ (W + 1)/(N' + 1), and the head here is wrong on a share of about a tenth."""
    generator = np.random.default_rng(seed)
    labels, said = np.arange(2000) % CLASSES, generator.normal(size=(2000, CLASSES))
    said[np.arange(2000), labels] += 3
    features = said.astype(np.float32)
    of = [PartFeatures({"a": features[rows]}, labels[rows]) for rows in (slice(0, 1600), slice(1600, None))]
    trust = RowTrust(("a",), 1600)
    trust.on_features(_Reads(), *of)
    wrong = (features[1600:].argmax(-1) != labels[1600:]).sum()
    # Five standard deviations of 1,600 draws, and of a threshold that is itself an order statistic of 400.
    share = (wrong + 1) / 401
    assert (trust.weights()["a"] == 0).float().mean() <= share + 5 * np.sqrt(share * (1 - share) * (1 / 1600 + 1 / 400))


def test_all_rows_count_alike_where_none_can_be_believed(knowing):
    train, calibration = part(40, 0), part(40, 1)
    calibration.labels[:] = (calibration.labels + 1) % CLASSES  # every one is wrong, so that ε is 1
    trust = RowTrust(MODALITIES, 40)
    trust.on_features(knowing, train, calibration)
    assert (trust.weights()[FUSED] == 1).all()


@pytest.mark.parametrize(("trust", "parts"), [("label", True), ("all", False)])
def test_features_are_needed_after_warm_up_if_rows_are_weighted(model, trust, parts):
    method = CPSCConfig(trust=trust, parts="gsc", warmup=3).build(model, MODALITIES)
    method.on_fit_start(ROWS)
    assert method.features_needed(2) == ()
    assert method.features_needed(3) == (("train", "calibration") if parts else ())
    assert bool(method.row_weights()) is parts


def losses(method, model, batch, rows=None):
    inputs, labels = batch
    qhat = {head: torch.tensor(0.8) for head in (*MODALITIES, FUSED)}
    method.on_batch_start(torch.arange(ROWS) if rows is None else rows)
    return method.losses(model, model.encode(inputs), labels, qhat)


@pytest.mark.parametrize("parts", ["gsc", "neither"])
def test_a_row_that_is_left_out_has_no_part_in_any_cross_entropy(model, batch, parts):
    method = CPSCConfig(trust="label", parts=parts).build(model, MODALITIES)
    method.on_fit_start(ROWS)
    keeps = torch.ones(ROWS)
    keeps[:3] = 0
    method.trust.of_rows.values.copy_(keeps[None])
    out = losses(method, model, batch)
    inputs, labels = batch
    fewer = ({m: x[3:] for m, x in inputs.items()}, labels[3:])
    plain = CPSCConfig(parts=parts).build(model, MODALITIES)
    wanted = losses(plain, model, fewer)
    for name, term in wanted.terms.items():
        torch.testing.assert_close(out.terms[name], term * 9 / 12)
    assert out.diagnostics["left_out"].item() == 0.25


def test_weights_belong_to_rows_and_not_to_places_in_a_batch(model, batch):
    method = CPSCConfig(trust="label", parts="gsc").build(model, MODALITIES)
    method.on_fit_start(100)
    method.trust.of_rows.values.copy_(torch.rand(1, 100))
    rows = torch.randperm(100)[:ROWS]
    out = losses(method, model, batch, rows)
    inputs, labels = batch
    logits = model.classify(model.encode(inputs))
    each = torch.nn.functional.cross_entropy(logits[FUSED], labels, reduction="none")
    torch.testing.assert_close(out.terms["ce_fused"], (method.trust.of_rows.values[0, rows] * each).mean())


def test_weights_are_saved_with_the_method(model):
    method = CPSCConfig(trust="label", parts="both").build(model, MODALITIES)
    method.on_fit_start(ROWS)
    method.trust.of_rows.values.copy_(torch.rand(1, ROWS))
    again = CPSCConfig(trust="label", parts="both").build(model, MODALITIES)
    again.on_fit_start(ROWS)
    again.load_state_dict(method.state_dict())
    torch.testing.assert_close(again.trust.of_rows.values, method.trust.of_rows.values)
