"""Training: the configuration of a run, and its course from the first epoch to its results.

A run starts, is resumed and is evaluated in `run`. `setup` builds data, model and method; `loop` trains an epoch, by
`step` and `refresh`; `selection` saves the best epoch; `results` evaluates it.
"""

from cpsc_train.training.compute import ComputeConfig
from cpsc_train.training.config import CheckpointConfig, ConformalConfig, Mode, RunConfig, reconfigured, with_method
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
    "reconfigured",
    "resume",
    "train",
    "with_method",
]
