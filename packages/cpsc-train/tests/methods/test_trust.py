"""Which training rows are believed, on features whose p-values are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import nn

from cpsc_train.methods import PartFeatures
from cpsc_train.methods.cpsc import CPSCConfig
from cpsc_train.methods.trust import RowTrust
from cpsc_train.models import FUSED

MODALITIES = ("a", "b")
ROWS, CLASSES, DIM = 12, 3, 4


def examined(rows, seed, noisy=0):
    """Features that say the class along one axis; the first `noisy` rows of modality a say nothing."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % CLASSES
    features = {m: generator.normal(size=(rows, DIM)).astype(np.float32) + 6 * np.eye(DIM)[labels] for m in MODALITIES}
    features["a"][:noisy] = 9 * generator.normal(size=(noisy, DIM))
    return PartFeatures({m: h.astype(np.float32) for m, h in features.items()}, labels)


class _Reads:
    """A model whose features are the logits."""

    heads = nn.Linear(1, 1)

    def classify(self, features):
        return {FUSED: features["a"]}


@pytest.fixture
def knowing(model):
    """Heads that read the class off the features."""
    with torch.no_grad():
        for head in model.heads.values():
            head.weight.copy_(torch.eye(CLASSES, DIM))
            head.bias.zero_()
    return model


def test_noisy_inputs_weigh_less_and_only_in_their_modality(model):
    trust = RowTrust("input", MODALITIES, 300)
    trust.on_features(model, examined(300, 0, noisy=60), examined(100, 1))
    weights = {head: w.numpy() for head, w in trust.weights().items()}
    assert weights["a"][:60].mean() < 0.3 * weights["a"][60:].mean()
    assert weights["b"][:60].mean() == pytest.approx(weights["b"][60:].mean(), rel=0.2)
    assert weights[FUSED][:60].mean() < weights[FUSED][60:].mean()
    for of in weights.values():
        assert of.mean() == pytest.approx(1)


def test_noisy_inputs_weigh_less_where_calibration_rows_are_as_noisy(model):
    trust = RowTrust("input", MODALITIES, 300)
    trust.on_features(model, examined(300, 0, noisy=90), examined(200, 1, noisy=60))
    of = trust.weights()["a"]
    assert of[:90].mean() < 0.5 * of[90:].mean()


def test_weights_of_inputs_are_p_values(model):
    """Rows that the distance has not learned from would be uniform; those it has are nearer, so that p is larger."""
    trust = RowTrust("input", MODALITIES, 600)
    trust.on_features(model, examined(600, 0), examined(600, 1))
    p = trust.weights()["a"].numpy()
    p = p / p.max()
    assert kstest(p, "uniform").statistic < 0.06


@pytest.mark.parametrize("in_calibration", [0, 50])
def test_wrong_labels_are_left_out_whether_calibration_labels_are_right_or_not(knowing, in_calibration):
    train, calibration = examined(400, 0), examined(200, 1)
    wrong = np.zeros(400, dtype=bool)
    wrong[:100] = True
    train.labels[wrong] = (train.labels[wrong] + 1) % CLASSES
    calibration.labels[:in_calibration] = (calibration.labels[:in_calibration] + 1) % CLASSES
    trust = RowTrust("label", MODALITIES, 400)
    trust.on_features(knowing, train, calibration)
    for of in trust.weights().values():
        left_out = of.numpy() == 0
        assert left_out[wrong].mean() > 0.95
        assert left_out[~wrong].mean() < 0.05
        assert of.mean() == pytest.approx(1)


def test_labels_that_are_odder_than_all_of_calibration_are_left_out_by_a_head_that_is_never_wrong(knowing):
    train, calibration = examined(40, 0), examined(40, 1)
    train.labels[0] = (train.labels[0] + 1) % CLASSES
    trust = RowTrust("label", MODALITIES, 40)
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
    of = [PartFeatures({"a": features[part]}, labels[part]) for part in (slice(0, 1600), slice(1600, None))]
    trust = RowTrust("label", ("a",), 1600)
    trust.on_features(_Reads(), *of)
    wrong = (features[1600:].argmax(-1) != labels[1600:]).sum()
    # Three standard deviations of 1,600 draws, and of a threshold that is itself an order statistic of 400.
    share = (wrong + 1) / 401
    assert (trust.weights()["a"] == 0).float().mean() <= share + 3 * np.sqrt(share * (1 - share) * (1 / 1600 + 1 / 400))


def test_all_rows_count_alike_where_none_can_be_believed(knowing):
    train, calibration = examined(40, 0), examined(40, 1)
    calibration.labels[:] = (calibration.labels + 1) % CLASSES  # every one is wrong, so that ε is 1
    trust = RowTrust("label", MODALITIES, 40)
    trust.on_features(knowing, train, calibration)
    assert (trust.weights()[FUSED] == 1).all()


@pytest.mark.parametrize(("trust", "parts"), [("label", True), ("input", True), ("reliability", False), ("all", False)])
def test_rows_are_examined_after_warm_up_where_that_is_needed(model, trust, parts):
    method = CPSCConfig(trust=trust, warmup=3).build(model, MODALITIES)
    method.on_fit_start(ROWS)
    assert method.features_needed(2) == ()
    assert method.features_needed(3) == (("train", "calibration") if parts else ())
    assert bool(method.row_weights()) is parts


def losses(method, model, batch, rows=None):
    inputs, labels = batch
    qhat = {head: torch.tensor(0.8) for head in (*MODALITIES, FUSED)}
    method.on_batch_start(torch.arange(ROWS) if rows is None else rows)
    return method.losses(model, model.encode(inputs), labels, qhat)


def test_a_row_that_is_left_out_has_no_part_in_any_cross_entropy(model, batch):
    method = CPSCConfig(trust="label", rsc=False).build(model, MODALITIES)
    method.on_fit_start(ROWS)
    keeps = torch.ones(ROWS)
    keeps[:3] = 0
    method.trust.of_rows.values.copy_(keeps.expand(3, ROWS))
    out = losses(method, model, batch)
    inputs, labels = batch
    fewer = ({m: x[3:] for m, x in inputs.items()}, labels[3:])
    plain = CPSCConfig(rsc=False).build(model, MODALITIES)
    wanted = losses(plain, model, fewer)
    for name, term in wanted.terms.items():
        torch.testing.assert_close(out.terms[name], term * 9 / 12)
    assert out.diagnostics["left_out"].item() == 0.25


def test_weights_belong_to_rows_and_not_to_places_in_a_batch(model, batch):
    method = CPSCConfig(trust="input", rsc=False).build(model, MODALITIES)
    method.on_fit_start(100)
    method.trust.of_rows.values.copy_(torch.rand(3, 100))
    rows = torch.randperm(100)[:ROWS]
    out = losses(method, model, batch, rows)
    inputs, labels = batch
    logits = model.classify(model.encode(inputs))
    each = torch.nn.functional.cross_entropy(logits[FUSED], labels, reduction="none")
    torch.testing.assert_close(out.terms["ce_fused"], (method.trust.of_rows.values[2, rows] * each).mean())


def test_reliability_weighs_without_looking_at_a_label(model, batch):
    method = CPSCConfig(trust="reliability", rsc=False, gsc=False).build(model, MODALITIES)
    inputs, labels = batch
    given, other = losses(method, model, batch), losses(method, model, (inputs, (labels + 1) % CLASSES))
    rho, same = given.distributions["reliability"], other.distributions["reliability"]
    logits = model.classify(model.encode(inputs))
    weights = torch.stack(list(rho.values())).mean(0)
    each = torch.nn.functional.cross_entropy(logits[FUSED], labels, reduction="none")
    torch.testing.assert_close(given.terms["ce_fused"], (weights / weights.mean() * each).mean())
    for m, of in rho.items():
        torch.testing.assert_close(of, same[m])


def test_weights_are_saved_with_the_method(model):
    method = CPSCConfig(trust="label").build(model, MODALITIES)
    method.on_fit_start(ROWS)
    method.trust.of_rows.values.copy_(torch.rand(3, ROWS))
    again = CPSCConfig(trust="label").build(model, MODALITIES)
    again.on_fit_start(ROWS)
    again.load_state_dict(method.state_dict())
    torch.testing.assert_close(again.trust.of_rows.values, method.trust.of_rows.values)
