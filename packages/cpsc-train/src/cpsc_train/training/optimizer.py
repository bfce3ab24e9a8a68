"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch.optim import lr_scheduler

from cpsc_train.config import Choice
from cpsc_train.config.choice import COUNT, DECAY, FRACTION, NOT_NEGATIVE, POSITIVE, Options


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Options):
    """Options of the optimizer."""

    section = "optimizer"
    rules = {
        "lr": POSITIVE,
        "encoder_lr_factor": POSITIVE,
        "weight_decay": NOT_NEGATIVE,
        "momentum": DECAY,
        "clip_norm": POSITIVE,
        "accumulate": COUNT,
    }

    kind: Literal["adam", "adamw", "sgd", "adagrad"] = "adam"
    """Algorithm."""
    lr: float = 1e-3
    """Learning rate."""
    encoder_lr_factor: float = 1.0
    """Learning rate of the pretrained parameters of encoders, as a multiple of `lr`; everything else, such as heads,
    fusion, and the projections and random parameters of encoders, has `lr`."""
    weight_decay: float = 0.0
    """Weight decay, as the algorithm defines it."""
    momentum: float = 0.9
    """Momentum of ``sgd``; ignored by the others."""
    clip_norm: float | None = None
    """Largest norm of the gradient of all parameters; longer gradients are scaled down. If None, there is no limit."""
    accumulate: int = 1
    """Batches whose gradients are accumulated for one step, which is that of one large batch, except for batch
    normalisation."""

    def build(
        self, parameters: Iterable[torch.nn.Parameter], pretrained: Iterable[torch.nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """Return the optimizer of the parameters that require a gradient.

        `pretrained` are the parameters with their own learning rate: the second group of the optimizer, if there are
        any and `encoder_lr_factor` is not 1.
        """
        groups = self._groups([p for p in parameters if p.requires_grad], {id(p) for p in pretrained})
        if self.kind == "sgd":
            return torch.optim.SGD(groups, lr=self.lr, weight_decay=self.weight_decay, momentum=self.momentum)
        adaptive: dict[str, Callable[..., torch.optim.Optimizer]] = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "adagrad": torch.optim.Adagrad,
        }
        return adaptive[self.kind](groups, lr=self.lr, weight_decay=self.weight_decay)

    def _groups(self, trainable: list[torch.nn.Parameter], pretrained: set[int]) -> Any:
        own = [p for p in trainable if id(p) in pretrained]
        if self.encoder_lr_factor == 1 or not own:
            return trainable
        others = [p for p in trainable if id(p) not in pretrained]
        return [{"params": others}, {"params": own, "lr": self.encoder_lr_factor * self.lr}]


class Schedule:
    """The learning rate over the epochs: that of a scheduler of torch, or constant if it is None."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def step(self, validation_accuracy: float) -> None:
        """Set the learning rate of the next epoch; `validation_accuracy` in [0, 1] is that of the fused head."""
        if self._scheduler is not None:
            follows = isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau)
            self._scheduler.step(*([validation_accuracy] if follows else []))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the scheduler, numbers only."""
        return {} if self._scheduler is None else self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state)


class ScheduleConfig(Choice):
    """Options of a learning-rate schedule."""

    section = "schedule"

    def build(self, optimizer: torch.optim.Optimizer, epochs: int) -> Schedule:
        """Return the schedule of a run of `epochs` epochs."""
        return Schedule(self._scheduler(optimizer, epochs))

    def _scheduler(self, optimizer: torch.optim.Optimizer, epochs: int) -> Any:
        """Return a scheduler of torch; None for a constant learning rate."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ConstantConfig(ScheduleConfig, name="constant"):
    """Constant learning rate."""

    def _scheduler(self, optimizer: torch.optim.Optimizer, epochs: int) -> Any:
        return None


@dataclass(frozen=True, kw_only=True)
class StepConfig(ScheduleConfig, name="step"):
    """The learning rate is multiplied by `factor` every `every` epochs."""

    rules = {"every": COUNT, "factor": FRACTION}

    every: int = 70
    """Epochs between two drops."""
    factor: float = 0.1
    """Factor of each drop."""

    def _scheduler(self, optimizer: torch.optim.Optimizer, epochs: int) -> Any:
        return lr_scheduler.StepLR(optimizer, self.every, self.factor)


@dataclass(frozen=True, kw_only=True)
class CosineConfig(ScheduleConfig, name="cosine"):
    """Half a cosine over the run, from the learning rate down to a fraction of it."""

    rules = {"final": DECAY}

    final: float = 0.0
    """Final learning rate as a fraction of the initial one, in [0, 1)."""

    def _scheduler(self, optimizer: torch.optim.Optimizer, epochs: int) -> Any:
        if len(optimizer.param_groups) > 1 and self.final:
            return lr_scheduler.LambdaLR(optimizer, partial(self._fraction, epochs))
        return lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=self.final * optimizer.param_groups[0]["lr"])

    def _fraction(self, epochs: int, epoch: int) -> float:
        """Return the learning rate of an epoch as a fraction of the initial one, which differs between groups."""
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@dataclass(frozen=True, kw_only=True)
class PlateauConfig(ScheduleConfig, name="plateau"):
    """The learning rate is multiplied by `factor` when validation accuracy has stopped rising."""

    rules = {"patience": NOT_NEGATIVE, "factor": FRACTION}

    factor: float = 0.3
    """Factor of each drop."""
    patience: int = 10
    """Epochs without a higher validation accuracy before a drop."""

    def _scheduler(self, optimizer: torch.optim.Optimizer, epochs: int) -> Any:
        return lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=self.factor, patience=self.patience)


ScheduleConfig.register(ConstantConfig, StepConfig, CosineConfig, PlateauConfig)
