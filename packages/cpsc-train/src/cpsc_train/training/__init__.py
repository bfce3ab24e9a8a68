"""Training: the configuration of a run, the loop, the conformal predictor inside it, checkpoints."""

from cpsc_train.training.config import ConformalConfig, OptimizerConfig, RunConfig
from cpsc_train.training.loop import evaluate, train

__all__ = ["ConformalConfig", "OptimizerConfig", "RunConfig", "evaluate", "train"]
