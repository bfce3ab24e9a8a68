"""CPSC and its literal variants."""

from cpsc_train.methods.cpsc.literal import LiteralConfig
from cpsc_train.methods.cpsc.method import CPSC, CPSCConfig
from cpsc_train.methods.cpsc.released import ReleasedConfig

__all__ = ["CPSC", "CPSCConfig", "LiteralConfig", "ReleasedConfig"]
