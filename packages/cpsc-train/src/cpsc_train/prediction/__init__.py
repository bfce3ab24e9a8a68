"""Predictions for new samples by the model of a run."""

from cpsc_train.prediction.model import Model, load
from cpsc_train.prediction.result import Prediction, PredictionBatch

__all__ = ["Model", "Prediction", "PredictionBatch", "load"]
