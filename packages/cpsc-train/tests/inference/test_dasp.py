"""The redundancy rule of DASP."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cpsc_train.inference import Trained, parse_inference
from cpsc_train.inference.dasp import redundancy
from cpsc_train.methods import PartFeatures
from cpsc_train.models import FUSED


class Sum(nn.Module):
    def predict(self, model, features, qhat, present):
        return {FUSED: torch.stack(list(features.values())).sum(0)}


def spread(rows=2048, seed=0):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed))


def collapsed(rows=2048, seed=0):
    """Features that one factor dominates."""
    return 0.3 * spread(rows, seed) + 2 * spread(rows, seed + 100)[:, :1]


def fitted(modalities, text="dasp:weight=0.25:batch_size=1024"):
    variant = parse_inference(text).build(Trained(None, Sum(), None, batch_size=64, seed=0))
    clean = {m: spread(seed=i).numpy() for i, m in enumerate(modalities)}
    variant.fit(SimpleNamespace(part=lambda name: PartFeatures(clean, np.zeros(2048, int))))
    return variant


def test_redundancy_against_a_loop():
    h = collapsed(40).double()
    h[:, 2] *= 1e-3  # hardly varies, so it is left out
    columns = [h[:, j] for j in (0, 1, 3, 4)]
    cosines = [float(x @ y / (x.norm() * y.norm())) for x in columns for y in columns if x is not y]
    assert float(redundancy(h)) == pytest.approx(np.sqrt(np.mean(np.square(cosines))), abs=1e-5)
    assert float(redundancy(torch.zeros(4, 3))) == 0
    assert float(redundancy(torch.ones(1, 3))) == 0


@pytest.mark.parametrize("modalities", ["ab", "abc"])
def test_modality_whose_redundancy_rose_is_scaled(modalities):
    variant = fitted(modalities)
    features = {m: spread(seed=10 + i) for i, m in enumerate(modalities)}
    logits, weights = variant.predict(features)
    assert all(bool((w == 1).all()) for w in weights.values())
    features["b"] = collapsed(seed=20)
    logits, weights = variant.predict(features)
    assert {m: set(w.tolist()) for m, w in weights.items()} == {m: {0.25 if m == "b" else 1.0} for m in modalities}
    expected = sum((0.25 if m == "b" else 1.0) * h for m, h in features.items())
    torch.testing.assert_close(logits[FUSED], expected)


def test_nothing_is_scaled_where_all_rise_or_one_is_left():
    variant = fitted("ab", "dasp:delta=0.3:batch_size=1024")
    _, weights = variant.predict({m: collapsed(seed=20 + i) for i, m in enumerate("ab")})
    assert all(bool((w == 1).all()) for w in weights.values())
    _, weights = variant.predict({"a": collapsed()})
    assert bool((weights["a"] == 1).all())


def test_batches_are_decided_apart():
    variant = fitted("ab", "dasp:delta=0.3:batch_size=256")
    rows = variant.trained.order(2048)
    features = {m: spread(seed=10 + i) for i, m in enumerate("ab")}
    features["a"][rows[:256]] = collapsed(256)
    _, weights = variant.predict(features)
    assert bool((weights["a"][rows[:256]] == 0.25).all())
    assert bool((weights["a"][rows[256:]] == 1).all())


def test_rows_that_lack_a_modality_do_not_count():
    variant = fitted("ab")
    features = {"a": spread(seed=10), "b": spread(seed=11)}
    present = {"b": torch.arange(2048) % 2 == 0}
    features["b"][~present["b"]] = 1.0  # would be redundant
    _, weights = variant.predict(features, present)
    assert all(bool((w == 1).all()) for w in weights.values())
    _, weights = variant.predict(features, {"b": torch.zeros(2048, dtype=torch.bool)})
    assert bool((weights["a"] == 1).all())
