"""What a recipe is: a complete configuration, and where each value that is not ours comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from cpsc_train.data import Noise
from cpsc_train.methods.cpsc import CPSCConfig, LiteralConfig
from cpsc_train.training import ConformalConfig, Mode, RunConfig

Source = Literal["paper", "released"]
"""Stated in the paper, or read from the authors' code; anything else in a recipe is our choice."""


@dataclass(frozen=True)
class Recipe:
    """A configuration and its sources.

    Parameters
    ----------
    config
        The configuration.
    sources
        By dotted key, or the start of one: where the value comes from.
    """

    config: RunConfig
    sources: Mapping[str, Source] = field(default_factory=dict)


Build = Callable[[Mode, tuple[str, ...] | None], Recipe]
"""From a mode and the modalities to use (``None``: the recipe's own) to a recipe."""


@dataclass(frozen=True, kw_only=True)
class Released:
    """What the authors' code sets for a data set; the defaults are those shared by all of theirs.

    Parameters
    ----------
    warmup, a, b
        Warm-up epochs t0, slope and offset of the gradient weight.
    residual, mixing
        Share γ of the component, and how it is mixed with the feature.
    calibration
        Calibration samples; it has 16 or 4, and which where is our choice.
    """

    warmup: int
    a: float
    b: float
    residual: float
    mixing: Literal["convex", "additive"] = "convex"
    calibration: int = 16

    def method(self, mode: Mode) -> CPSCConfig:
        """Return the method as `mode` reads it."""
        if mode == "ours":
            return CPSCConfig(warmup=self.warmup, a=self.a, b=self.b)
        paper = LiteralConfig(warmup=self.warmup, a=self.a, b=self.b)
        if mode == "paper":
            return paper
        return replace(
            paper,
            residual=self.residual,
            mixing=self.mixing,
            match_magnitude=True,
            decomposition="mlp",
            reliability="reciprocal",
            divergence="js-reversed",
            weigh="encoders",
            frozen_heads=True,
        )

    def conformal(self, mode: Mode) -> ConformalConfig:
        """Return the conformal predictor as `mode` reads it."""
        if mode == "released":
            return ConformalConfig(alpha=0.2, refresh="epoch", quantile="released")
        return ConformalConfig(alpha=0.2, refresh="exact" if mode == "paper" else "rolling")

    def shares(self, mode: Mode) -> float:
        """Return ``splits.calibration`` as `mode` reads it."""
        return self.calibration if mode == "released" else 0.1


def image_noise(modalities: Iterable[str]) -> tuple[Noise, ...]:
    """Return the noise conditions for photographs, one modality at a time."""
    kinds: tuple[tuple[Literal["gaussian", "salt-and-pepper"], tuple[float, float]], ...] = (
        ("gaussian", (0.2, 0.4)),
        ("salt-and-pepper", (0.05, 0.1)),
    )
    return tuple(Noise(modality=m, kind=kind, severity=s) for m in modalities for kind, levels in kinds for s in levels)


SHARED: dict[str, Source] = {
    "method.consistency": "paper",
    "method.diversity": "paper",
    "method.warmup": "released",
    "method.components": "released",
    "method.top_k": "released",
    "method.a": "released",
    "method.b": "released",
    "conformal.alpha": "released",
    "optimizer": "released",
    "schedule": "released",
    "batch_size": "released",
    "epochs": "released",
}
"""Sources of what every data set of the authors' code sets."""
MODES: dict[Mode, dict[str, Source]] = {
    "ours": {},
    "paper": {
        "method.residual": "paper",
        "method.divergence": "paper",
        "method.decomposition": "paper",
        "method.reliability": "paper",
        "method.weigh": "paper",
        "conformal.refresh": "paper",
        "conformal.quantile": "paper",
    },
    "released": {
        "method.residual": "released",
        "method.mixing": "released",
        "method.decomposition": "released",
        "method.reliability": "released",
        "method.divergence": "released",
        "method.weigh": "released",
        "method.inference": "released",
        "method.frozen_heads": "released",
        "conformal.refresh": "released",
        "conformal.quantile": "released",
        "splits.calibration": "released",
    },
}
"""Sources of what a mode sets."""
