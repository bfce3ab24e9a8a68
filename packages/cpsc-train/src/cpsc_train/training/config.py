"""The typed configuration of a run: complete, and fixed before anything expensive starts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from cpsc_train.config import from_plain, to_plain, unknown
from cpsc_train.data import CorruptionConfig, DataConfig, Noise, SplitConfig
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig
from cpsc_train.models import EncoderConfig, FusionConfig, GateConfig, LateConfig
from cpsc_train.training.compute import ComputeConfig
from cpsc_train.training.optimizer import ConstantConfig, OptimizerConfig, ScheduleConfig

Mode = Literal["ours", "paper", "released"]


@dataclass(frozen=True, kw_only=True)
class ConformalConfig:
    """The conformal predictor, in the loop and in the report."""

    alpha: float = 0.1
    """Miscoverage: prediction sets hold the true class for a share 1 − alpha of exchangeable samples."""
    refresh: str = "rolling"
    """When the calibration scores follow the model: ``exact`` (all, after every step), ``rolling`` (one slice after
    every step), ``interval:K`` (all, every K steps) or ``epoch``."""
    slice: int | None = None
    """Samples that ``rolling`` re-scores after each step; a quarter of the batch size if absent. No score is older
    than ⌈N / slice⌉ − 1 steps."""
    frozen_copy: bool = False
    """Whether reliability is judged by a copy of the heads made at the last refresh; with ``epoch`` and
    ``interval:K``."""
    quantile: Literal["exact", "released"] = "exact"
    """``exact``: the ⌈(N+1)(1−α)⌉-th smallest score, which has the guarantee; ``released``: the one after the first
    ⌈N(1−α)⌉, at most the largest, as the authors' code takes it."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise UserError(f"conformal.alpha must lie in (0, 1), got {self.alpha}")
        if not re.fullmatch(r"exact|rolling|epoch|interval:[1-9]\d*", self.refresh):
            raise UserError(f"conformal.refresh must be exact, rolling, epoch or interval:K, got {self.refresh!r}")
        if self.slice is not None and self.slice < 1:
            raise UserError(f"conformal.slice must be at least 1, got {self.slice}")
        if self.frozen_copy and self.refresh in {"exact", "rolling"}:
            raise UserError(
                f"conformal.frozen_copy belongs to refresh = epoch or interval:K, got {self.refresh!r}: with it the "
                "heads that judge would be those of another moment than the scores"
            )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When a run saves all it needs to go on after it was killed."""

    every_epochs: int = 1
    """Epochs between two."""
    every_steps: int | None = None
    """Steps between two within an epoch; none there if absent."""
    keep: int = 2
    """How many of the newest are kept. The best on validation rows is kept besides."""

    def __post_init__(self) -> None:
        for name in ("every_epochs", "every_steps", "keep"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"checkpoints.{name} must be at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run computes."""

    recipe: str
    """The recipe it was built from."""
    mode: Mode = "ours"
    """Whose reading of the method the recipe took: ours, the paper's to the letter, or that of the released code."""
    seed: int = 0
    """Seed of the initial parameters, of the order of the batches, and of augmentation."""
    epochs: int = 40
    """Passes over the training rows, warm-up included."""
    patience: int | None = None
    """Epochs without a better validation accuracy after which training stops early; never if absent."""
    batch_size: int = 64
    """Samples a batch, over all processes together."""
    feature_dim: int = 64
    """Width d of every modality's features."""
    ema: float = 0.0
    """Decay of an exponential moving average of the parameters, which is then what is validated and kept; 0: none."""
    data: DataConfig
    """The data set."""
    splits: SplitConfig = field(default_factory=SplitConfig)
    """Its division."""
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)
    """What is done to the rows that are learned from, to see what becomes of it; nothing by default."""
    encoders: dict[str, EncoderConfig]
    """One encoder a modality."""
    fusion: FusionConfig = field(default_factory=LateConfig)
    """From all modalities to one decision."""
    method: MethodConfig
    """The training method."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimizer."""
    schedule: ScheduleConfig = field(default_factory=ConstantConfig)
    """The course of its learning rate."""
    conformal: ConformalConfig = field(default_factory=ConformalConfig)
    """The conformal predictor."""
    gate: GateConfig = field(default_factory=GateConfig)
    """The conformal gate at inference."""
    noise: tuple[Noise, ...] = ()
    """Noise conditions of the validation and test rows, beside the clean ones."""
    protocols: tuple[str, ...] = ()
    """Named noise protocols of the field, on all modalities at once, such as ``qmf:GS@5,10`` or ``strict:SP@10``."""
    missing: bool = True
    """Whether a report also says what happens when a modality is missing altogether."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """Device, precision and the like."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    """What a killed run can go on from."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "feature_dim"):
            if not 1 <= getattr(self, name) < 2**31:
                rule = "at least 1" if getattr(self, name) < 1 else "below 2^31"
                raise UserError(f"{name} must be {rule}, got {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise UserError(f"patience must be at least 1, got {self.patience}")
        if not 0 <= self.ema < 1:
            raise UserError(f"ema must lie in [0, 1), got {self.ema}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed must lie in [0, 2^63), got {self.seed}")
        self._check_modalities()

    def _check_modalities(self) -> None:
        used = self.data.modalities
        for modality in self.encoders:
            if modality not in used:
                raise UserError(unknown("modality", f"encoders.{modality}", [f"encoders.{m}" for m in used]))
        for modality in used:
            if modality not in self.encoders:
                raise UserError(f"encoders.{modality} is missing: say which encoder reads it")
        names = [noise.name for noise in self.noise]
        for noise in (*self.noise, *self.corruption.noise):
            if noise.modality not in used:
                raise UserError(f"noise {noise.name}: {noise.modality!r} is not among the modalities in use")
        for noise in self.noise:
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
