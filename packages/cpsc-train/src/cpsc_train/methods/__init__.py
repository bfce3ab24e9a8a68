"""Training methods. One file a method: what it adds to the one training loop. A new file here is found by itself."""

import sys

from cpsc_train.config import discover
from cpsc_train.methods.base import Method, PartFeatures, StepLosses
from cpsc_train.methods.options import MethodConfig, Range
from cpsc_train.methods.rows import RowTable

discover(sys.modules[__name__])

__all__ = ["Method", "MethodConfig", "PartFeatures", "Range", "RowTable", "StepLosses"]
