"""Evaluation: metrics, and the protocol that a run's results come from."""

from cpsc_train.evaluation import metrics
from cpsc_train.evaluation.protocol import METRICS, Predictions, coverage, describe, measure

__all__ = ["METRICS", "Predictions", "coverage", "describe", "measure", "metrics"]
