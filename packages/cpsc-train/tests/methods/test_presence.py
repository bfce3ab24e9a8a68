"""Every method with samples that lack a modality."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch

from cpsc_train.methods import MethodConfig, PartFeatures
from cpsc_train.models import FUSED

MODALITIES = ("a", "b")
ROWS, CLASSES = 12, 3
QHAT = {head: torch.tensor(0.8) for head in (*MODALITIES, FUSED)}
ALL = sorted(MethodConfig.members)
SOME = {"a": torch.arange(ROWS) % 3 != 0, "b": torch.arange(ROWS) % 4 != 1}


def build(name, model, alone, present=None):
    """Return a method after the features of a part were shown to it, as it is in the middle of a run."""
    torch.manual_seed(3)
    method = MethodConfig.named(name)().build(model, MODALITIES)
    method.on_fit_start(ROWS)
    features = {m: np.random.default_rng(0).standard_normal((ROWS, model.dim)).astype(np.float32) for m in MODALITIES}
    masks = {m: mask.numpy() for m, mask in (present or {}).items()}
    features = {m: h * masks[m][:, None] if m in masks else h for m, h in features.items()}
    part = PartFeatures(features, np.arange(ROWS) % CLASSES, masks)
    for epoch in range(25):
        method.on_epoch_start(epoch, alone)
        if needed := method.features_needed(epoch):
            method.on_features(model, dict.fromkeys(needed, part))
    return method


def outcome(name, model, batch, step, alone, present, of_parts=None):
    """Return everything that two steps compute, by name."""
    model = deepcopy(model)
    method = build(name, model, alone, of_parts or present)
    for _ in range(2):
        torch.manual_seed(4)
        out = step(method, model, batch, present=present, qhat=QHAT)
    values = {f"term {key}": value for key, value in out.terms.items()}
    values |= {f"logits {key}": value for key, value in out.logits.items()}
    values |= {f"figure {key}": value for key, value in out.diagnostics.items()}
    for key, module in (("model", model), ("method", method)):
        values |= {f"gradient of {key} {n}": p.grad for n, p in module.named_parameters() if p.grad is not None}
        values |= {f"buffer of {key} {n}": b for n, b in module.named_buffers()}
    with torch.no_grad():
        method.eval()
        features = model.eval().encode(batch[0], present)
        values |= {f"prediction {h}": z for h, z in method.predict(model, features, QHAT, present).items()}
        scored = method.calibration_logits(model, features, batch[1], QHAT, present)
        values |= {f"score {h}": z for h, z in scored.items() if h == FUSED}
    return values


@pytest.mark.parametrize("name", ALL)
def test_the_content_of_absent_samples_changes_nothing(name, model, batch, step, alone):
    inputs, labels = batch
    garbage = {m: torch.where(SOME[m][:, None], x, 100 * torch.randn_like(x)) for m, x in inputs.items()}
    one, other = (outcome(name, model, (x, labels), step, alone, SOME) for x in (inputs, garbage))
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert value.isfinite().all() or "history" in key, key
        assert torch.equal(value, other[key]), key


@pytest.mark.parametrize("name", ALL)
def test_masks_of_complete_data_change_nothing(name, model, batch, step, alone):
    everywhere = dict.fromkeys(MODALITIES, torch.ones(ROWS, dtype=torch.bool))
    one, other = (outcome(name, model, batch, step, alone, present) for present in ({}, everywhere))
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", ALL)
def test_a_modality_may_be_absent_from_a_whole_batch(name, model, batch, step, alone):
    none = {"a": torch.zeros(ROWS, dtype=torch.bool)}
    seen = outcome(name, model, batch, step, alone, SOME | none, SOME)
    for key, value in seen.items():
        assert value.isfinite().all() or "history" in key, key
    absent = [value for key, value in seen.items() if key.startswith("gradient of model encoders.a")]
    noisy = name in {"ogm-ge", "inforeg"}  # change gradients by more than the data
    assert noisy or not any(value.any() for value in absent)


@pytest.mark.parametrize("name", ALL)
def test_a_sample_without_any_modality_is_predicted(name, model, batch, alone):
    nothing = {m: torch.arange(ROWS) > 0 for m in MODALITIES}
    method = build(name, model, alone, SOME).eval()
    with torch.no_grad():
        out = method.predict(model, model.eval().encode(batch[0], nothing), QHAT, nothing)
        left = method.predict(model, model.encode({"a": batch[0]["a"]}, nothing), QHAT, nothing)
    assert all(z.isfinite().all() for z in (*out.values(), *left.values()))
