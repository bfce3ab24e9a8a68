"""What a recipe is: a complete configuration, and where each value that is not ours comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from cpsc_train.data import DataConfig, Noise, SplitConfig
from cpsc_train.methods.cpsc import CPSCConfig, LiteralConfig, ReleasedConfig
from cpsc_train.models import EncoderConfig
from cpsc_train.training import ComputeConfig, ConformalConfig, Mode, RunConfig

Source = Literal["paper", "released", "package"]
"""Stated in the paper, read from the authors' code, or parameters of an installed package (extra ``pretrained``);
anything else in a recipe is our choice."""
Data = TypeVar("Data", bound=DataConfig)


@dataclass(frozen=True)
class Recipe:
    """A configuration and its sources."""

    config: RunConfig
    sources: Mapping[str, Source] = field(default_factory=dict)
    """By dotted key, or the start of one: where the value comes from."""


Build = Callable[[Mode, tuple[str, ...] | None], Recipe]
"""From a mode and the modalities to use (``None``: the recipe's own) to a recipe."""


def _sources(source: Source, **keys: tuple[str, ...]) -> dict[str, Source]:
    return {f"{section}.{name}": source for section, names in keys.items() for name in names}


SHARED: dict[str, Source] = (
    _sources("paper", method=("consistency", "diversity"))
    | _sources("released", method=("warmup", "components", "top_k", "a", "b"), conformal=("alpha",))
    | dict.fromkeys(("optimizer", "schedule", "batch_size", "epochs"), "released")
)
"""Sources of what every data set of the authors' code sets."""
_COLOUR_DEPTH: dict[str, Any] = {
    "residual": 0.3,
    "mixing": "additive",
    "fused": 1.0,
    "unimodal": 1.0,
    "alignment": 0.0,
    "bottleneck": 0.1,
    "diversity_form": "difference",
    "compared": "raw",
    "judge": "depth",
}
_CONVEX = _COLOUR_DEPTH | {"residual": 0.05, "mixing": "convex"}
RELEASED: dict[str, dict[str, Any]] = {
    "crema-d": _CONVEX | {"fused": 1.6, "unimodal": 0.4, "alignment": 2.0, "bottleneck": 2.0, "judge": "audio"},
    "mvsa-single": _CONVEX | {"diversity_form": "sigmoid", "compared": "matched", "judge": "text"},
    "nyu-depth-v2": _COLOUR_DEPTH,
    "sun-rgbd": _COLOUR_DEPTH | {"diversity": 0.0},
}
"""By data set, options of ``cpsc-released`` that the authors' code sets; frozen. Their loss on CREMA-D is
2 (.8 CE(fused) + .2 Σ CE + JS′ + L_ib)."""
RELEASED_CALIBRATION = {"crema-d": 16, "nyu-depth-v2": 4, "sun-rgbd": 4}
"""By data set, calibration samples of the authors' code; on MVSA-Single they are a file that it does not include."""
READINGS: dict[Mode, type[CPSCConfig]] = {"ours": CPSCConfig, "paper": LiteralConfig, "released": ReleasedConfig}
"""The method by mode."""
CONFORMAL: dict[Mode, ConformalConfig] = {
    "ours": ConformalConfig(),
    "paper": ConformalConfig(refresh="exact"),
    "released": ConformalConfig(refresh="epoch", quantile="released"),
}
"""The conformal predictor by mode, without its level."""
QUICK: dict[str, Any] = {"warmup": 5, "a": 0.6, "b": 0.6, "alpha": 0.1, "compute": ComputeConfig(threads=1)}
"""Values of recipes whose runs take minutes on one core."""
INFERENCE: dict[Mode, tuple[str, ...]] = {"ours": ("trust",), "paper": (), "released": ()}
"""Inference variants by mode."""
MODES: dict[Mode, dict[str, Source]] = {
    "ours": {},
    "paper": _sources(
        "paper",
        method=("residual", "divergence", "decomposition", "reliability", "weigh"),
        conformal=("refresh", "quantile"),
    ),
    "released": _sources("released", method=("inference",), conformal=("refresh", "quantile")),
}
"""Sources of what a mode sets."""


def assemble(
    mode: Mode,
    data: DataConfig,
    encoders: Mapping[str, EncoderConfig],
    *,
    warmup: int,
    a: float,
    b: float,
    alpha: float = 0.2,
    like: str = "",
    sources: Mapping[str, Source] = MappingProxyType({}),
    **values: Any,
) -> Recipe:
    """Return the recipe of a data set, with CPSC as `mode` reads it.

    The authors' code sets the warm-up epochs t0, and slope `a` and offset `b` of the gradient weight, by data set; its
    other options are in `RELEASED`; a data set that it does not have uses the entry `like`, if given. Without
    calibration samples of its own, a data set has 16 in the mode ``released``, which is our choice. `values` are
    further fields of the configuration.
    """
    options: dict[str, Any] = {"warmup": warmup, "a": a, "b": b}
    marks = MODES[mode] | dict(sources)
    if mode == "released":
        preset = RELEASED.get(like or data.name, {})
        marks |= _sources("released", method=tuple(preset)) if data.name in RELEASED else {}
        if data.name in RELEASED_CALIBRATION:
            marks["splits.calibration"] = "released"
        options |= preset
    config = RunConfig(
        recipe=data.name,
        mode=mode,
        data=data,
        encoders=dict(encoders),
        method=READINGS[mode](**options),
        conformal=replace(CONFORMAL[mode], alpha=alpha),
        inference=INFERENCE[mode],
        splits=SplitConfig(calibration=RELEASED_CALIBRATION.get(data.name, 16) if mode == "released" else 0.1),
    )
    return Recipe(replace(config, **values), marks)


def choose(data: Data, modalities: tuple[str, ...] | None) -> Data:
    """Return the options of a data set with some of its modalities; unchanged if None."""
    return data if modalities is None else replace(data, modalities=modalities)


def noise(
    modalities: Iterable[str], gaussian: tuple[float, ...] = (0.2, 0.4), pixels: tuple[float, ...] = (0.05, 0.1)
) -> tuple[Noise, ...]:
    """Return noise conditions, one modality at a time; by default those for photographs.

    `gaussian` and `pixels` are the severities of Gaussian and of salt-and-pepper noise.
    """
    kinds: tuple[tuple[Literal["gaussian", "salt-and-pepper"], tuple[float, ...]], ...] = (
        ("gaussian", gaussian),
        ("salt-and-pepper", pixels),
    )
    return tuple(Noise(modality=m, kind=kind, severity=s) for m in modalities for kind, levels in kinds for s in levels)
