import json
from dataclasses import replace

import numpy as np
import pytest

from cpsc_train.data import Condition, Noise
from cpsc_train.evaluation import Predictions, Thresholds, calibrated, coverage, measure


def predictions(labels, probabilities):
    return Predictions(np.asarray(labels), {head: np.asarray(p, dtype=float) for head, p in probabilities.items()})


def thresholds(calibration, alpha):
    return Thresholds(lambda absent: [calibration], alpha=alpha)


def test_coverage_by_hand():
    """Nine scores .1 … .9 and alpha = .2: rank ⌈10 · .8⌉ = 8, so q̂ is the eighth smallest, .8."""
    scores = np.arange(1, 10) / 10
    calibration = predictions(np.zeros(9, int), {"fused": np.stack([1 - scores, scores], 1)})
    other = predictions([0, 0, 1, 1], {"fused": [[0.9, 0.1], [0.15, 0.85], [0.5, 0.5], [0.95, 0.05]]})
    report = coverage(thresholds(calibration, 0.2), other)["fused"]
    assert report["target"] == 0.8
    assert report["threshold"] == pytest.approx(0.8)
    # sets hold the classes with probability ≥ .2: {0}, {1}, {0, 1}, {0}; labels 0, 0, 1, 1
    assert report["coverage"] == pytest.approx(2 / 4)
    assert report["mean_size"] == pytest.approx((1 + 1 + 2 + 1) / 4)
    assert report["class_coverage"] == [0.5, 0.5]
    # the most probable classes are 0, 1, 0, 0, so of the three sets of one class one is right, of two classes none
    assert report["sizes"] == {"1": {"count": 3, "accuracy": pytest.approx(1 / 3)}, "2": {"count": 1, "accuracy": 0.0}}


def test_a_class_without_rows_has_no_coverage():
    calibration = predictions([0, 0], {"fused": [[0.9, 0.1], [0.8, 0.2]]})
    assert coverage(thresholds(calibration, 0.5), calibration)["fused"]["class_coverage"][1] is None


def test_all_conditions_are_evaluated_and_calibrated_on_clean_rows():
    asked = []
    noise = Noise(modality="a", kind="gaussian", severity=1.0)

    def collect(part, noise=(), without=()):
        if part != "calibration":
            asked.append((part, noise, without))
        labels = np.arange(20) % 2
        wrong = 0.9 if noise else 0.4 if without else {"calibration": 0.0, "validation": 0.1, "test": 0.2}[part]
        p = np.where(np.arange(2) == labels[:, None], 1 - wrong, wrong)
        return replace(
            predictions(labels, {head: p for head in ("a", "b", "fused") if head not in without}), absent=tuple(without)
        )

    report = measure(
        collect,
        thresholds=calibrated(collect, alpha=0.1),
        noise=[Condition(noise.name, (noise,))],
        missing=[("b",)],
    )
    conditions = [((), ()), ((noise,), ()), ((), ("b",))]
    assert asked == [(part, *condition) for part in ("validation", "test") for condition in conditions]
    clean, noisy, without = (report["test"][name] for name in ("clean", noise.name, "without-b"))
    assert clean["accuracy"] == {"a": 1.0, "b": 1.0, "fused": 1.0}
    assert clean["macro_f1"]["fused"] == clean["average_accuracy"] == 1.0
    assert clean["negative_log_likelihood"]["a"] == pytest.approx(-np.log(0.8))
    assert clean["expected_calibration_error"]["a"] == pytest.approx(0.2)
    assert noisy["accuracy"]["fused"] == noisy["average_accuracy"] == 0.0
    assert without["coverage"]["fused"]["threshold"] == pytest.approx(0.4)  # of calibration rows without b, too
    assert without["coverage"]["fused"]["coverage"] == 1.0
    assert (clean["coverage"]["fused"]["rule"], without["coverage"]["fused"]["rule"]) == ("split", "pattern")
    assert set(without["accuracy"]) == set(without["coverage"]) == {"a", "fused"}
    assert report["coverage"]["calibration"]["fused"]["coverage"] == 1.0
    assert report["coverage"]["test"] == clean["coverage"]
    assert noisy["coverage"]["fused"]["coverage"] == 0.0
    assert list(report["coverage"]) == ["calibration", "validation", "test"]
    json.dumps(report, allow_nan=False)
