import numpy as np
import pytest
import torch

from cpsc_train.data import Batch, Noise
from cpsc_train.evaluation import Predictions, coverage, measure


def predictions(labels, probabilities):
    return Predictions(np.asarray(labels), {head: np.asarray(p, dtype=float) for head, p in probabilities.items()})


def test_accuracy_and_likelihood_by_hand():
    seen = predictions([0, 1, 1], {"a": [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], "fused": [[1, 0], [0, 1], [1, 0]]})
    assert seen.accuracy == pytest.approx({"a": 2 / 3, "fused": 2 / 3})
    likelihood = seen.negative_log_likelihood
    assert likelihood["a"] == pytest.approx(-np.log([0.9, 0.4, 0.8]).mean())
    assert np.isfinite(likelihood["fused"])


def test_coverage_by_hand():
    """Nine scores .1 … .9 and alpha = .2: rank ⌈10 · .8⌉ = 8, so q̂ is the eighth smallest, .8."""
    scores = np.arange(1, 10) / 10
    calibration = predictions(np.zeros(9, int), {"fused": np.stack([1 - scores, scores], 1)})
    other = predictions([0, 0, 1, 1], {"fused": [[0.9, 0.1], [0.15, 0.85], [0.5, 0.5], [0.95, 0.05]]})
    report = coverage(calibration, other, alpha=0.2)["fused"]
    assert report["target"] == 0.8
    assert report["qhat"] == pytest.approx(0.8)
    # sets hold the classes with probability ≥ .2: {0}, {1}, {0, 1}, {0}; labels 0, 0, 1, 1
    assert report["coverage"] == pytest.approx(2 / 4)
    assert report["mean_size"] == pytest.approx((1 + 1 + 2 + 1) / 4)


def test_the_protocol_looks_at_every_condition_and_calibrates_on_clean_calibration_rows_only():
    asked = []
    noise = Noise(modality="a", kind="gaussian", severity=1.0)

    def batches(part, condition):
        asked.append((part, condition))
        shift = {"calibration": 0.0, "validation": 0.1, "test": 0.2}[part] + (1.0 if condition else 0.0)
        labels = torch.arange(20) % 2
        margin = torch.where(labels == 0, 1.0, -1.0) * (1 - shift)
        return [Batch((), labels, {"a": margin[:, None]})]

    def predict(batch):
        margin = batch.inputs["a"]
        return {"a": torch.cat([margin, -margin], 1), "fused": torch.cat([margin, -margin], 1)}

    report = measure(predict, batches, alpha=0.1, noise=[noise])
    assert sorted(asked, key=str) == sorted(
        [("calibration", None), ("validation", None), ("validation", noise), ("test", None), ("test", noise)], key=str
    )
    assert report["test"]["clean"]["accuracy"] == {"a": 1.0, "fused": 1.0}
    assert report["test"][noise.name]["accuracy"]["fused"] == 0.0
    assert report["coverage"]["calibration"]["fused"]["coverage"] == 1.0
    assert report["coverage"]["test"] == report["test"]["clean"]["coverage"]
    assert report["test"][noise.name]["coverage"]["fused"]["coverage"] == 0.0
    assert list(report["coverage"]) == ["calibration", "validation", "test"]


def test_probabilities_are_taken_in_double_precision():
    labels = torch.tensor([0])
    seen = Predictions.collect(lambda _: {"fused": torch.tensor([[40.0, 0.0]])}, [Batch((), labels, {})])
    assert seen.probabilities["fused"].dtype == np.float64
    assert 0 < seen.probabilities["fused"][0, 1] < 1e-17
