"""The gate as an inference variant: fitted to the rows that have a modality."""

import numpy as np
import torch

from cpsc_rsc import ConformalGate
from cpsc_train.inference import fit_gate
from cpsc_train.methods import PartFeatures


def part(rows, seed, present=None):
    generator = np.random.default_rng(seed)
    features = {m: generator.standard_normal((rows, 4)).astype(np.float32) for m in "ab"}
    return PartFeatures(features, np.arange(rows) % 3, present or {})


def gate():
    return ConformalGate({"a": 4, "b": 4}, classes=3, alpha=0.1)


def tensors(features):
    return {m: torch.from_numpy(h) for m, h in features.items()}


def test_complete_rows_give_the_gate_of_all_modalities():
    training, calibration = part(200, 0), part(100, 1)
    fitted, expected = gate(), gate()
    fit_gate(fitted, training, calibration)
    expected.fit(tensors(training.features), torch.from_numpy(training.labels), tensors(calibration.features))
    assert fitted.fitted
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in fitted.state_dict().items())


def test_rows_that_lack_a_modality_do_not_count():
    present = {"b": np.arange(200) % 2 == 0}, {"b": np.arange(100) % 2 == 0}
    training, calibration = part(200, 0, present[0]), part(100, 1, present[1])
    other = part(200, 0, present[0])
    other.features["b"][~present[0]["b"]] = 1e3
    one, two = gate(), gate()
    fit_gate(one, training, calibration)
    fit_gate(two, other, calibration)
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
