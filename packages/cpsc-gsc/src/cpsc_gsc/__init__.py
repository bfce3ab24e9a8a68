"""Gradient self-calibration: weight each sample's unimodal gradient by its conformal reliability."""

from cpsc_gsc.__about__ import __version__
from cpsc_gsc.hook import GradientSelfCalibration
from cpsc_gsc.loss import gsc_loss, weighted_cross_entropy
from cpsc_gsc.reliability import collaborative_reliability, gsc_weights

__all__ = [
    "GradientSelfCalibration",
    "__version__",
    "collaborative_reliability",
    "gsc_loss",
    "gsc_weights",
    "weighted_cross_entropy",
]
