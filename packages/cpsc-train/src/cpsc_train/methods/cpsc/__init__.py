"""CPSC, its literal variants, and alternatives to its conformal predictor."""

from cpsc_train.methods.cpsc.literal import LiteralConfig
from cpsc_train.methods.cpsc.method import CPSC, CPSCConfig
from cpsc_train.methods.cpsc.released import ReleasedConfig
from cpsc_train.methods.cpsc.rivals import EnsembleConfig, MCDropoutConfig, TemperatureConfig

__all__ = [
    "CPSC",
    "CPSCConfig",
    "EnsembleConfig",
    "LiteralConfig",
    "MCDropoutConfig",
    "ReleasedConfig",
    "TemperatureConfig",
]
