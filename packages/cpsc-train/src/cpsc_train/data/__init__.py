"""Data sets, splits, standardisation, noise and batches."""

import cpsc_train.data.adapters  # noqa: F401  # registers the data sets
from cpsc_train.data.batch import Batch
from cpsc_train.data.corruption import CorruptionConfig
from cpsc_train.data.dataset import DataConfig, Dataset
from cpsc_train.data.loader import Loader
from cpsc_train.data.missing import MissingConfig
from cpsc_train.data.modality import Modality
from cpsc_train.data.noise import Condition, Corruption, Noise
from cpsc_train.data.order import Draw, InOrder, Shuffled
from cpsc_train.data.preprocessing import Preprocessing
from cpsc_train.data.protocols import conditions
from cpsc_train.data.splits import SplitConfig, Splits

__all__ = [
    "Batch",
    "Condition",
    "Corruption",
    "CorruptionConfig",
    "DataConfig",
    "Dataset",
    "Draw",
    "InOrder",
    "Loader",
    "MissingConfig",
    "Modality",
    "Noise",
    "Preprocessing",
    "Shuffled",
    "SplitConfig",
    "Splits",
    "conditions",
]
