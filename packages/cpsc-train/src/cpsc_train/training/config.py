"""Typed configuration of a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from cpsc_train.config import apply_settings, from_plain, import_modules, override, to_plain, unknown
from cpsc_train.config.choice import COUNT, DECAY, FRACTION, NOT_NEGATIVE, Options, Rule
from cpsc_train.data import CorruptionConfig, DataConfig, MissingConfig, Noise, SplitConfig
from cpsc_train.errors import UserError
from cpsc_train.inference import InferenceConfig, parse_inference
from cpsc_train.methods import MethodConfig
from cpsc_train.models import EncoderConfig, FusionConfig, LateConfig
from cpsc_train.training.compute import ComputeConfig
from cpsc_train.training.optimizer import ConstantConfig, OptimizerConfig, ScheduleConfig

Mode = Literal["ours", "paper", "released"]


@dataclass(frozen=True, kw_only=True)
class ConformalConfig(Options):
    """The conformal predictor, in the loop and in the report."""

    section = "conformal"
    rules = {"alpha": FRACTION, "slice": COUNT, "memory_mib": NOT_NEGATIVE}

    alpha: float = 0.1
    """Miscoverage: prediction sets contain the true class for a fraction 1 − alpha of exchangeable samples."""
    refresh: str = "rolling"
    """When calibration scores are recomputed with the current model: ``exact`` (all, after every step), ``rolling``
    (one slice, after every step), ``interval:K`` (all, every K steps) or ``epoch`` (all, once an epoch)."""
    slice: int | None = None
    """Samples that ``rolling`` scores after each step. If None, a quarter of the batch size. No score is older than
    ⌈N / slice⌉ − 1 steps."""
    memory_mib: int = 1024
    """Most memory, in MiB, for the decoded calibration samples of a process, on its device. If they take more, they
    are read again at each refresh; results are the same."""
    quantile: Literal["exact", "released"] = "exact"
    """``exact``: the ⌈(N+1)(1−α)⌉-th smallest score, for which coverage is guaranteed; ``released``: the one after the
    first ⌈N(1−α)⌉, at most the largest, as in the authors' code."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"exact|rolling|epoch|interval:[1-9]\d*", self.refresh):
            raise UserError(f"conformal.refresh must be exact, rolling, epoch or interval:K, got {self.refresh!r}")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Options):
    """When the state of a run is saved, so it can be resumed."""

    section = "checkpoints"
    rules = dict.fromkeys(("every_epochs", "every_steps", "keep"), COUNT)

    every_epochs: int = 1
    """Epochs between two checkpoints."""
    every_steps: int | None = None
    """Steps between two checkpoints within an epoch. If None, there are none."""
    keep: int = 2
    """Number of checkpoints kept, besides the parameters of the best epoch."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(Options):
    """Configuration of a run."""

    rules = dict.fromkeys(("epochs", "batch_size", "feature_dim", "patience"), COUNT) | {
        "ema": DECAY,
        "seed": Rule("must lie in [0, 2^63)", lambda value: 0 <= value < 2**63),
    }

    imports: tuple[str, ...] = ()
    """Modules, or paths of files, that register data sets, methods and the like; imported before names are looked up.
    A configuration that names any runs their code."""
    recipe: str
    """Name of the recipe the configuration was built from."""
    mode: Mode = "ours"
    """Reading of the method that the recipe follows: ours, the paper, or the released code."""
    seed: int = 0
    """Seed of the initial parameters, the order of the batches, and augmentation."""
    epochs: int = 40
    """Passes over the training rows, including warm-up."""
    patience: int | None = None
    """Epochs without a better validation accuracy after which training stops. If None, it never stops early."""
    batch_size: int = 64
    """Samples in a batch, summed over all processes."""
    feature_dim: int = 64
    """Feature width d of every modality."""
    ema: float = 0.0
    """Decay of an exponential moving average of the parameters, which is then validated and saved; 0 for none."""
    data: DataConfig
    """The data set."""
    splits: SplitConfig = field(default_factory=SplitConfig)
    """Its division into parts."""
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)
    """Corruption of the rows used for training, to study its effect; none by default."""
    missing: MissingConfig = field(default_factory=MissingConfig)
    """Modalities removed from some of the samples, to study the effect; none by default."""
    augment: tuple[Noise, ...] = ()
    """Noise on training rows only, as augmentation: each on its own fraction (``share``) of the rows, drawn anew
    in each epoch."""
    encoders: dict[str, EncoderConfig]
    """One encoder for each modality. If the data set detects its modalities, encoders may be omitted; they then follow
    from the kind of modality."""
    fusion: FusionConfig = field(default_factory=LateConfig)
    """Fusion of all modalities into one decision."""
    method: MethodConfig
    """The training method."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimizer."""
    schedule: ScheduleConfig = field(default_factory=ConstantConfig)
    """The learning-rate schedule."""
    conformal: ConformalConfig = field(default_factory=ConformalConfig)
    """The conformal predictor."""
    inference: tuple[str, ...] = ()
    """Inference variants to evaluate besides the plain model: ``trust``, ``read``, ``dasp``, with options such as
    ``read:lr=0.001:steps=2``."""
    noise: tuple[Noise, ...] = ()
    """Noise conditions under which the validation and test rows are evaluated, besides the clean ones."""
    protocols: tuple[str, ...] = ()
    """Further noise conditions as text: named protocols on all modalities at once, such as ``qmf:GS@5,10``, and levels
    of severity, such as ``pix:blur@1-5``, ``pix:all@3`` or ``pix:blur@3+fou:gaussian@3``."""
    leave_out: bool = True
    """Whether the model is also evaluated without single modalities."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """Device, precision and the like."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Checkpoints from which a run can be resumed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "batch_size", "feature_dim"):
            if getattr(self, name) >= 2**31:  # larger numbers overflow in libraries
                raise UserError(f"{name} must be below 2^31, got {getattr(self, name)}")
        if self.method.needs_full_refresh and self.conformal.refresh in {"exact", "rolling"}:
            raise UserError(
                f"the frozen heads of {self.method.name} require conformal.refresh = epoch or interval:K, got "
                f"{self.conformal.refresh!r}: the frozen heads would be older than the scores"
            )
        self._check_modalities()
        if self.data.modalities:
            self.missing.check(self.data.modalities)
        if len(self.variants) < len(self.inference):
            raise UserError(f"inference must name different variants, got {', '.join(self.inference)}")

    @property
    def variants(self) -> dict[str, InferenceConfig]:
        """Inference variants by name; raises UserError for an unknown one."""
        return {text: parse_inference(text) for text in self.inference}

    @property
    def unsettled(self) -> bool:
        """Whether options of the data or encoders are left to it; `cpsc_train.training.settled` completes them."""
        absent = any(modality not in self.encoders for modality in self.data.modalities)
        return self.data.detects and (absent or not self.data.complete)

    def _check_modalities(self) -> None:
        noises = (*self.noise, *self.corruption.noise, *self.augment)
        used = self.data.modalities
        if self.data.detects and not used:  # they are not known before the data set is opened
            used = (*self.encoders, *(noise.modality for noise in noises))
        for modality in self.encoders:
            if modality not in used:
                raise UserError(unknown("modality", f"encoders.{modality}", [f"encoders.{m}" for m in used]))
        absent = [] if self.data.detects else [modality for modality in used if modality not in self.encoders]
        if absent:
            raise UserError(f"encoders.{absent[0]} is missing: name the encoder of {absent[0]}")
        for noise in noises:
            if noise.modality not in used:
                raise UserError(
                    f"noise {noise.name}: modality must be one of {', '.join(used)}, got {noise.modality!r}"
                )
        for name, count in Counter(noise.name for noise in self.noise).items():
            if count > 1:
                raise UserError(f"noise must be different, got {name} {count} times")

    def to_plain(self) -> dict[str, Any]:
        """Return the configuration as the content of a TOML file."""
        return dict(to_plain(self))

    @classmethod
    def from_plain(cls, table: dict[str, Any]) -> RunConfig:
        """Build a configuration from the content of a TOML file, after importing the modules that it names.

        Raises UserError for an unknown key, a missing key, a value that is not allowed, or a module that cannot be
        imported.
        """
        imports = table.get("imports", ())
        if isinstance(imports, (list, tuple)) and all(isinstance(name, str) for name in imports):
            import_modules(imports)
        return from_plain(cls, table)


def with_method(base: RunConfig, method: MethodConfig) -> RunConfig:
    """Return a copy of a configuration with another method, and refresh ``epoch`` if the method needs a full one."""
    full = method.needs_full_refresh and base.conformal.refresh in {"exact", "rolling"}
    return replace(base, method=method, conformal=replace(base.conformal, refresh="epoch") if full else base.conformal)


def with_root(base: RunConfig, root: str) -> RunConfig:
    """Return a copy of a configuration with its data set at `root`; raise UserError if it has no folder."""
    if not hasattr(base.data, "root"):
        raise UserError(f"--root: the data set {base.data.name} is not read from a folder")
    return override(base, {"data.root": root})


def reconfigured(
    base: RunConfig, settings: Iterable[str] = (), values: Mapping[str, Any] = MappingProxyType({})
) -> RunConfig:
    """Return a copy of a configuration with `values` by dotted key, and then with ``key=value`` `settings`.

    A method other than that of `base` starts with its defaults for the epochs of the run: options that count epochs are
    scaled (`cpsc_train.methods.MethodConfig.for_epochs`) unless they are given. Raises UserError as
    `cpsc_train.config.convert` and `cpsc_train.config.apply_settings` do.

    Examples
    --------
    >>> from cpsc_train.recipes import recipe
    >>> reconfigured(recipe("handwritten"), ["method.name=tmc", "epochs=20"]).method.annealing
    2
    """
    settings = list(settings)
    config = apply_settings(override(base, values), settings)
    if config.method.name == base.method.name:
        return config
    scaled = replace(config, method=type(config.method).for_epochs(config.epochs))
    return apply_settings(override(scaled, values), settings)
