"""The optimizer and the course of its learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.optim import lr_scheduler

from cpsc_train.config import Choice
from cpsc_train.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer of all parameters."""

    kind: Literal["adam", "adamw", "sgd", "adagrad"] = "adam"
    """Which one."""
    lr: float = 1e-3
    """Learning rate."""
    weight_decay: float = 0.0
    """Weight decay, as the optimizer defines it."""
    momentum: float = 0.9
    """Momentum; read by ``sgd`` alone."""
    clip_norm: float | None = None
    """Largest length of the gradient of all parameters together; longer ones are scaled down. No limit if absent."""
    accumulate: int = 1
    """Batches whose gradients make one step; the step is that of one batch as large as all of them, batch
    normalisation aside."""

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise UserError(f"optimizer.lr must be positive, got {self.lr}")
        if self.weight_decay < 0:
            raise UserError(f"optimizer.weight_decay must not be negative, got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise UserError(f"optimizer.momentum must lie in [0, 1), got {self.momentum}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise UserError(f"optimizer.clip_norm must be positive, got {self.clip_norm}")
        if self.accumulate < 1:
            raise UserError(f"optimizer.accumulate must be at least 1, got {self.accumulate}")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of those parameters that want a gradient."""
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        lr, decay = self.lr, self.weight_decay
        match self.kind:
            case "adam":
                return torch.optim.Adam(wanted, lr=lr, weight_decay=decay)
            case "adamw":
                return torch.optim.AdamW(wanted, lr=lr, weight_decay=decay)
            case "sgd":
                return torch.optim.SGD(wanted, lr=lr, weight_decay=decay, momentum=self.momentum)
            case "adagrad":
                return torch.optim.Adagrad(wanted, lr=lr, weight_decay=decay)


class Schedule:
    """How the learning rate goes on after each epoch; constant, unless a subclass says otherwise."""

    def __init__(self, scheduler: Any = None, *, follows_validation: bool = False) -> None:
        self._scheduler = scheduler
        self._follows_validation = follows_validation

    def step(self, validation_accuracy: float) -> None:
        """End an epoch; `validation_accuracy` in [0, 1] is that of the fused head."""
        if self._scheduler is not None:
            self._scheduler.step(*([validation_accuracy] if self._follows_validation else []))

    def state_dict(self) -> dict[str, Any]:
        """Return numbers only."""
        return {} if self._scheduler is None else self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state)


class ScheduleConfig(Choice):
    """Options of a learning-rate schedule."""

    def build(self, optimizer: torch.optim.Optimizer, epochs: int) -> Schedule:
        """Return the schedule of a run of so many epochs."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ConstantConfig(ScheduleConfig, name="constant"):
    """The same learning rate throughout."""

    def build(self, optimizer: torch.optim.Optimizer, epochs: int) -> Schedule:
        """Return the schedule."""
        return Schedule()


@dataclass(frozen=True, kw_only=True)
class StepConfig(ScheduleConfig, name="step"):
    """Times `factor` every `every` epochs."""

    every: int = 70
    """Epochs between two drops."""
    factor: float = 0.1
    """What the learning rate is multiplied by."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UserError(f"schedule.every must be at least 1, got {self.every}")
        _check_factor(self.factor)

    def build(self, optimizer: torch.optim.Optimizer, epochs: int) -> Schedule:
        """Return the schedule."""
        return Schedule(lr_scheduler.StepLR(optimizer, self.every, self.factor))


@dataclass(frozen=True, kw_only=True)
class CosineConfig(ScheduleConfig, name="cosine"):
    """Half a cosine from the learning rate down to a share of it over the whole run."""

    final: float = 0.0
    """Share of the learning rate that the last epoch ends with, in [0, 1)."""

    def __post_init__(self) -> None:
        if not 0 <= self.final < 1:
            raise UserError(f"schedule.final must lie in [0, 1), got {self.final}")

    def build(self, optimizer: torch.optim.Optimizer, epochs: int) -> Schedule:
        """Return the schedule."""
        lowest = self.final * optimizer.param_groups[0]["lr"]
        return Schedule(lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=lowest))


@dataclass(frozen=True, kw_only=True)
class PlateauConfig(ScheduleConfig, name="plateau"):
    """Times `factor` once the accuracy on *validation* rows has not grown for more than `patience` epochs."""

    factor: float = 0.3
    """What the learning rate is multiplied by."""
    patience: int = 10
    """Epochs without growth that are borne."""

    def __post_init__(self) -> None:
        if self.patience < 0:
            raise UserError(f"schedule.patience must not be negative, got {self.patience}")
        _check_factor(self.factor)

    def build(self, optimizer: torch.optim.Optimizer, epochs: int) -> Schedule:
        """Return the schedule."""
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=self.factor, patience=self.patience)
        return Schedule(scheduler, follows_validation=True)


def _check_factor(factor: float) -> None:
    if not 0 < factor < 1:
        raise UserError(f"schedule.factor must lie in (0, 1), got {factor}")


ScheduleConfig.register(ConstantConfig, StepConfig, CosineConfig, PlateauConfig)
