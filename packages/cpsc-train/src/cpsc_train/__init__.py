"""Train and evaluate multimodal classifiers with conformal predictive self-calibration."""

from cpsc_train.__about__ import __version__

__all__ = ["__version__"]
