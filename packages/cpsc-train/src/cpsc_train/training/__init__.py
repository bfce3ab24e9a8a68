"""Training: the configuration of a run, the loop, the conformal predictor inside it, checkpoints."""

from cpsc_train.training.compute import ComputeConfig
from cpsc_train.training.config import CheckpointConfig, ConformalConfig, Mode, RunConfig
from cpsc_train.training.optimizer import OptimizerConfig, ScheduleConfig
from cpsc_train.training.run import evaluate, resume, train

__all__ = [
    "CheckpointConfig",
    "ComputeConfig",
    "ConformalConfig",
    "Mode",
    "OptimizerConfig",
    "RunConfig",
    "ScheduleConfig",
    "evaluate",
    "resume",
    "train",
]
