"""Representation self-calibration: trust the feature components a conformal predictor finds reliable."""

from cpsc_rsc.__about__ import __version__

__all__ = ["__version__"]
