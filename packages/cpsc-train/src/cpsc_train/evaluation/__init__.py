"""Evaluation: metrics, and the protocol that a run's results come from."""

from cpsc_train.evaluation.protocol import Predictions, coverage, measure

__all__ = ["Predictions", "coverage", "measure"]
