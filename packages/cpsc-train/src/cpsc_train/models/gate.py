"""Options of the conformal gate between encoders and heads at inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cpsc_rsc import ConformalGate
from cpsc_train.config.rules import FRACTION, Options

Distance = Literal["off", "classes", "all"]


@dataclass(frozen=True, kw_only=True)
class GateConfig(Options):
    """Whether a modality with unusual features is down-weighted at inference."""

    section = "gate"
    rules = {"alpha": FRACTION}

    distance: Distance = "off"
    """``off``, or the distance of features: to the nearest class mean of the training features (``classes``), or to
    their mean (``all``). The length of features counts in both cases."""
    alpha: float = 0.04
    """Largest fraction of clean samples in which a modality is down-weighted."""

    def build(self, modalities: Sequence[str], dim: int, classes: int) -> ConformalGate | None:
        """Return an unfitted gate. None: it is off."""
        if self.distance == "off":
            return None
        return ConformalGate(dict.fromkeys(modalities, dim), classes=classes, alpha=self.alpha, distance=self.distance)
