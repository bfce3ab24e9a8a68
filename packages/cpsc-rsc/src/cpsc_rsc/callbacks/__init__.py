"""Calibration in any training loop; `lightning` and `transformers` contain the callbacks for these frameworks.

A model that is trained with RSC or GSC has the quantile q̂ of each head in a submodule, a `HeadQuantiles`, which is
saved and moved with it. A model with trust has a `ConformalTrust`, which `fit_trust` fits to batches after training.
Importing this module imports no framework.
"""

from cpsc_rsc._evaluating import evaluating
from cpsc_rsc.callbacks.quantiles import CalibratedModel, HeadOutputs, HeadQuantiles, calibrate_heads
from cpsc_rsc.callbacks.refresh import RefreshSchedule
from cpsc_rsc.callbacks.trust_fit import CORRUPTION_LEVELS, TrustedModel, TrustInputs, fit_trust

__all__ = [
    "CORRUPTION_LEVELS",
    "CalibratedModel",
    "HeadOutputs",
    "HeadQuantiles",
    "RefreshSchedule",
    "TrustInputs",
    "TrustedModel",
    "calibrate_heads",
    "evaluating",
    "fit_trust",
]
