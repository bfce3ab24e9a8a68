"""Options of the conformal gate, which stands between encoders and heads at inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cpsc_rsc import ConformalGate
from cpsc_train.errors import UserError

Distance = Literal["off", "classes", "all"]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Whether a modality whose input is unlike those of calibration counts for less at inference."""

    distance: Distance = "off"
    """``off``; ``classes``: by the distance to the nearest class mean of the training features; ``all``: to the mean of
    all of them. By their length in both cases."""
    alpha: float = 0.04
    """Fraction of clean samples in which a modality may be down-weighted at all."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise UserError(f"gate.alpha must lie in (0, 1), got {self.alpha}")

    def build(self, modalities: Sequence[str], dim: int, classes: int) -> ConformalGate | None:
        """Return a gate that is not fitted yet; ``None`` if it is off."""
        if self.distance == "off":
            return None
        return ConformalGate(dict.fromkeys(modalities, dim), classes=classes, alpha=self.alpha, distance=self.distance)
