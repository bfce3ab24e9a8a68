"""Representation self-calibration: keep the feature components that a conformal predictor finds reliable."""

from cpsc_rsc.__about__ import __version__
from cpsc_rsc.curve import HeldOutCopy
from cpsc_rsc.decomposition import Decomposition, mix_residual
from cpsc_rsc.diagnostics import Diagnostics, diagnose
from cpsc_rsc.divergence import divergence_loss
from cpsc_rsc.inference import represent
from cpsc_rsc.module import MultimodalSelfCalibration, RepresentationSelfCalibration, RSCOutput
from cpsc_rsc.selection import component_reliability, recompose, top_k
from cpsc_rsc.taps import TappedEncoder, Taps
from cpsc_rsc.trust import ConformalTrust

__all__ = [
    "ConformalTrust",
    "Decomposition",
    "Diagnostics",
    "HeldOutCopy",
    "MultimodalSelfCalibration",
    "RSCOutput",
    "RepresentationSelfCalibration",
    "TappedEncoder",
    "Taps",
    "__version__",
    "component_reliability",
    "diagnose",
    "divergence_loss",
    "mix_residual",
    "recompose",
    "represent",
    "top_k",
]
