"""Exact online conformal prediction for numpy, torch and other array libraries."""

from conformal_core.__about__ import __version__
from conformal_core._state import flatten_state, unflatten_state
from conformal_core.exchangeability import ExchangeabilityTest
from conformal_core.intervals import Interval, interval_metrics, interval_score
from conformal_core.level.base import Level, QuantileLevel, Threshold, ThresholdLevel
from conformal_core.level.quantile import ACI, Constant, DtACI
from conformal_core.level.saocp import SAOCP
from conformal_core.level.tracking import ConformalPID, DecayingStep
from conformal_core.martingales import (
    Martingale,
    MixtureMartingale,
    PluginMartingale,
    PowerMartingale,
    SimpleJumper,
)
from conformal_core.memory.base import Fixed, Memory
from conformal_core.memory.buffer import CalibrationBuffer
from conformal_core.memory.ordered import History, Reservoir, Window
from conformal_core.memory.sketch import Sketch
from conformal_core.memory.weighted import Exponential
from conformal_core.metrics import (
    ConfidenceSequence,
    Coverage,
    class_coverage,
    coverage,
    group_coverage,
    rolling_coverage,
    size_coverage,
)
from conformal_core.novelty import Mahalanobis
from conformal_core.predictors.class_conditional import ClassConditionalClassifier, ClusteredClassifier
from conformal_core.predictors.horizons import Horizons
from conformal_core.predictors.mondrian import Mondrian
from conformal_core.predictors.novelty import NoveltyGate
from conformal_core.predictors.online import OnlineClassifier, OnlineRegressor
from conformal_core.predictors.regression import AsymmetricRegressor, PredictiveSystem
from conformal_core.predictors.split import SplitClassifier, SplitRegressor
from conformal_core.predictors.streams import Streams
from conformal_core.quantile import conformal_quantile, quantile_rank
from conformal_core.risk import benjamini_hochberg, control_risk, false_negative_losses, learn_then_test, risk_p_values
from conformal_core.scores.base import ClassificationScore
from conformal_core.scores.cumulative import APS, RAPS
from conformal_core.scores.joint import EllipsoidResidual, MaxResidual
from conformal_core.scores.nonconformity import NonconformityScore
from conformal_core.scores.probability import LAC, SAPS, Margin
from conformal_core.scores.regression import CQR, AbsoluteResidual, NormalizedResidual
from conformal_core.scores.residual import RegressionScore
from conformal_core.sets import p_values, prediction_set, rank_reliability, set_size
from conformal_core.weighted import weighted_conformal_quantile, weighted_p_values

__all__ = [
    "ACI",
    "APS",
    "CQR",
    "LAC",
    "RAPS",
    "SAOCP",
    "SAPS",
    "AbsoluteResidual",
    "AsymmetricRegressor",
    "CalibrationBuffer",
    "ClassConditionalClassifier",
    "ClassificationScore",
    "ClusteredClassifier",
    "ConfidenceSequence",
    "ConformalPID",
    "Constant",
    "Coverage",
    "DecayingStep",
    "DtACI",
    "EllipsoidResidual",
    "ExchangeabilityTest",
    "Exponential",
    "Fixed",
    "History",
    "Horizons",
    "Interval",
    "Level",
    "Mahalanobis",
    "Margin",
    "Martingale",
    "MaxResidual",
    "Memory",
    "MixtureMartingale",
    "Mondrian",
    "NonconformityScore",
    "NormalizedResidual",
    "NoveltyGate",
    "OnlineClassifier",
    "OnlineRegressor",
    "PluginMartingale",
    "PowerMartingale",
    "PredictiveSystem",
    "QuantileLevel",
    "RegressionScore",
    "Reservoir",
    "SimpleJumper",
    "Sketch",
    "SplitClassifier",
    "SplitRegressor",
    "Streams",
    "Threshold",
    "ThresholdLevel",
    "Window",
    "__version__",
    "benjamini_hochberg",
    "class_coverage",
    "conformal_quantile",
    "control_risk",
    "coverage",
    "false_negative_losses",
    "flatten_state",
    "group_coverage",
    "interval_metrics",
    "interval_score",
    "learn_then_test",
    "p_values",
    "prediction_set",
    "quantile_rank",
    "rank_reliability",
    "risk_p_values",
    "rolling_coverage",
    "set_size",
    "size_coverage",
    "unflatten_state",
    "weighted_conformal_quantile",
    "weighted_p_values",
]
