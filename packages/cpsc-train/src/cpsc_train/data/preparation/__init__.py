"""What is done with a data set before training: checked, taken apart, cached, packed, divided."""

from cpsc_train.data.preparation.caching import fill_cache
from cpsc_train.data.preparation.check import Checked, balance, check
from cpsc_train.data.preparation.division import write_splits
from cpsc_train.data.preparation.extraction import extract
from cpsc_train.data.preparation.packing import pack

__all__ = ["Checked", "balance", "check", "extract", "fill_cache", "pack", "write_splits"]
