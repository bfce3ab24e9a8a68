"""Preparation of a data set before training: checking, extracting, caching, packing, dividing."""

from cpsc_train.data.preparation.check import Checked, balance, check
from cpsc_train.data.preparation.copies import extract, fill_cache, write_splits
from cpsc_train.data.preparation.packing import pack

__all__ = ["Checked", "balance", "check", "extract", "fill_cache", "pack", "write_splits"]
