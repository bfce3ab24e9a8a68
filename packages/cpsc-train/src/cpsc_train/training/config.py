"""The typed configuration of a run: complete, and fixed before anything expensive starts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from cpsc_train.config import from_plain, to_plain
from cpsc_train.data import DataConfig, Noise, SplitConfig
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig
from cpsc_train.models import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class ConformalConfig:
    """The conformal predictor, in the loop and in the report."""

    alpha: float = 0.1
    """Miscoverage: prediction sets hold the true class for a share 1 − alpha of exchangeable samples."""
    refresh: str = "exact"
    """When the calibration scores follow the model: ``exact`` (all, after every step), ``rolling`` (one slice after
    every step), ``interval:K`` (all, every K steps) or ``epoch``."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise UserError(f"conformal.alpha must lie in (0, 1), got {self.alpha}")
        if not re.fullmatch(r"exact|rolling|epoch|interval:[1-9]\d*", self.refresh):
            raise UserError(f"conformal.refresh must be exact, rolling, epoch or interval:K, got {self.refresh!r}")


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

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise UserError(f"optimizer.lr must be positive, got {self.lr}")
        if self.weight_decay < 0:
            raise UserError(f"optimizer.weight_decay must not be negative, got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise UserError(f"optimizer.momentum must lie in [0, 1), got {self.momentum}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run computes."""

    recipe: str
    """The recipe it was built from."""
    seed: int = 0
    """Seed of the initial parameters and of the order of the batches."""
    epochs: int = 40
    """Passes over the training rows, warm-up included."""
    batch_size: int = 64
    """Samples a step."""
    feature_dim: int = 64
    """Width d of every modality's features."""
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``…; ``auto`` takes a GPU where there is one."""
    threads: int | None = None
    """CPU threads of torch; all cores if absent. A sum depends on how it is shared out, so that results on a CPU repeat
    to the last digit only with as many threads; small models are fastest with one."""
    data: DataConfig
    """The data set."""
    splits: SplitConfig = field(default_factory=SplitConfig)
    """Its division."""
    encoders: dict[str, EncoderConfig]
    """One encoder a modality."""
    method: MethodConfig
    """The training method."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimizer."""
    conformal: ConformalConfig = field(default_factory=ConformalConfig)
    """The conformal predictor."""
    noise: tuple[Noise, ...] = ()
    """Noise conditions of the validation and test rows, beside the clean ones."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "feature_dim"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads must be at least 1, got {self.threads}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed must lie in [0, 2^63), got {self.seed}")
        for modality in self.data.modalities:
            if modality not in self.encoders:
                raise UserError(f"encoders.{modality} is missing: say which encoder reads it")
        names = [noise.name for noise in self.noise]
        for noise in self.noise:
            if noise.modality not in self.data.modalities:
                raise UserError(f"noise {noise.name}: {noise.modality!r} is not among the modalities in use")
            if names.count(noise.name) > 1:
                raise UserError(f"noise {noise.name} is listed twice")

    def to_plain(self) -> dict[str, Any]:
        """Return the configuration as the tables of a TOML file."""
        return dict(to_plain(self))

    @classmethod
    def from_plain(cls, table: dict[str, Any]) -> RunConfig:
        """Build and check a configuration from the tables of a TOML file.

        Raises
        ------
        UserError
            For an unknown key, a missing one, or a value that breaks a rule.
        """
        return from_plain(cls, table)
