"""Metrics, and the protocol by which a run is evaluated."""

from cpsc_train.evaluation import metrics
from cpsc_train.evaluation.curves import area, curves, held_out, means_by_use
from cpsc_train.evaluation.outcomes import Outcome, Outcomes
from cpsc_train.evaluation.predictions import Predictions
from cpsc_train.evaluation.probabilities import Softmax
from cpsc_train.evaluation.protocol import METRICS, Variant, calibrated, describe, measure
from cpsc_train.evaluation.sets import Thresholds, coverage, prediction_sets
from cpsc_train.evaluation.share import Share

__all__ = [
    "METRICS",
    "Outcome",
    "Outcomes",
    "Predictions",
    "Share",
    "Softmax",
    "Thresholds",
    "Variant",
    "area",
    "calibrated",
    "coverage",
    "curves",
    "describe",
    "held_out",
    "means_by_use",
    "measure",
    "metrics",
    "prediction_sets",
]
