"""Online conformal prediction on any array library: exact, fast, tiny."""

from conformal_core.__about__ import __version__
from conformal_core._rank import quantile_rank
from conformal_core.memory.buffer import CalibrationBuffer
from conformal_core.memory.fixed import Fixed
from conformal_core.predictors.split import SplitClassifier
from conformal_core.quantile import conformal_quantile
from conformal_core.scores.cumulative import APS, RAPS
from conformal_core.scores.probability import LAC, Margin
from conformal_core.scores.ranked import SAPS
from conformal_core.sets import p_values, prediction_set, rank_reliability, set_size

__all__ = [
    "APS",
    "LAC",
    "RAPS",
    "SAPS",
    "CalibrationBuffer",
    "Fixed",
    "Margin",
    "SplitClassifier",
    "__version__",
    "conformal_quantile",
    "p_values",
    "prediction_set",
    "quantile_rank",
    "rank_reliability",
    "set_size",
]
