"""Metrics, and the protocol by which a run is evaluated."""

from cpsc_train.evaluation import metrics
from cpsc_train.evaluation.protocol import METRICS, Predictions, coverage, describe, measure

__all__ = ["METRICS", "Predictions", "coverage", "describe", "measure", "metrics"]
