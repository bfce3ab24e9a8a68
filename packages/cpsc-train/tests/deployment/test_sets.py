"""Prediction sets by tensors: the same as those of `Thresholds`."""

import json

import numpy as np
import pytest
import torch

from cpsc_train.deployment.sets import PredictionSets
from cpsc_train.evaluation import Predictions, Thresholds, prediction_sets
from cpsc_train.models import FUSED

NAMES = ("a", "b", "c")
PATTERNS = [(), ("a",), ("b",), ("a", "c")]


def predictions(rows, rng, present=None, *, unusual=True):
    present = present or {}
    logits = rng.normal(size=(rows, 4))
    typicality = {m: np.where(rng.random(rows) < 0.5, 1.0, rng.random(rows)) for m in NAMES} if unusual else {}
    features = {m: np.zeros((rows, 1), np.float32) for m in NAMES}
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Predictions(rng.integers(0, 4, rows), {FUSED: probabilities}, {}, typicality, features, present)


def without(one, absent):
    kept = [m for m in NAMES if m not in absent]
    typicality = {m: one.typicality[m] for m in kept if m in one.typicality}
    features = {m: one.features[m] for m in kept}
    return Predictions(one.labels, one.probabilities, {}, typicality, features, absent=tuple(absent))


@pytest.mark.parametrize("unusual", [True, False])
def test_sets_are_those_of_the_thresholds(unusual):
    rng = np.random.default_rng(0)
    calibration = [predictions(400, rng, unusual=unusual) for _ in range(2)]
    fitted = Thresholds(lambda absent: [without(one, absent) for one in calibration], alpha=0.2)
    state = json.loads(json.dumps(fitted.state_dict(FUSED, PATTERNS)))
    present = {m: rng.random(600) < 0.7 for m in NAMES}
    present["b"] |= ~present["a"] & ~present["c"]
    new = predictions(600, rng, present, unusual=unusual)
    expected = prediction_sets(Thresholds.from_state(state), new, FUSED)
    typicality = torch.from_numpy(np.stack([new.typicality[m] for m in NAMES], 1)) if unusual else None
    masks = torch.from_numpy(np.stack([present[m] for m in NAMES], 1))
    sets = PredictionSets(state, NAMES)(torch.from_numpy(new.probabilities[FUSED]), masks, typicality)
    np.testing.assert_array_equal(sets.numpy(), expected)
    unknown = present["a"] & present["b"] & ~present["c"]  # a pattern without thresholds
    assert unknown.any()
    assert sets[unknown].all()
    assert 1 < expected[~unknown].sum(1).mean() < 4


def test_a_missing_threshold_makes_full_sets():
    state = {"alpha": 0.1, "patterns": [{"absent": [], "full": None, "calibration": 3, "bins": None}]}
    sets = PredictionSets(state, ["a"])(torch.tensor([[0.0, 1.0]]).double(), torch.tensor([[True]]))
    assert sets.tolist() == [[True, True]]
