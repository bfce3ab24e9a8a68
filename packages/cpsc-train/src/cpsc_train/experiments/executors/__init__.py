"""Executors, which train the runs of an experiment: processes of this machine, or jobs of a cluster."""

from cpsc_train.experiments.executors.base import Executor
from cpsc_train.experiments.executors.local import Local
from cpsc_train.experiments.executors.ray import Ray
from cpsc_train.experiments.executors.slurm import Slurm

Executor.register(Local, Slurm, Ray)

__all__ = ["Executor", "Local", "Ray", "Slurm"]
