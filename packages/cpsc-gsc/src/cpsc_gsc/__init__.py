"""Gradient self-calibration: weight each sample's unimodal gradient by its conformal reliability."""

from cpsc_gsc.__about__ import __version__

__all__ = ["__version__"]
