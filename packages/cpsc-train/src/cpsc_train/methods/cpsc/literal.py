"""Most literal reading of the available summary of the paper, with options of the released code."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cpsc_rsc import MultimodalSelfCalibration
from cpsc_train.methods.base import Heads, Quantiles, StepLosses
from cpsc_train.methods.cpsc.method import CPSC, CPSCConfig, Parts
from cpsc_train.models import COMPLETE, MultimodalClassifier, Present, mean_present


class LiteralCPSC(CPSC):
    """CPSC with every choice that its two sources make differently from us."""

    config: LiteralConfig

    def __init__(self, config: LiteralConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        self.reliability = config.reliability
        super().__init__(config, model, modalities)
        self.frozen_heads = deepcopy(model.heads).requires_grad_(False) if config.frozen_heads else None
        self._scale: GradientScale | None = None

    def build_rsc(self, dim: int, **options: Any) -> MultimodalSelfCalibration:
        """Return the RSC of all modalities, with the options of the sources."""
        names = ("match_magnitude", "mixing", "decomposition", "divergence")
        return super().build_rsc(dim, **{name: getattr(self.config, name) for name in names}, **options)

    def raters(self, model: MultimodalClassifier) -> nn.ModuleDict:
        """Return the frozen heads if there are any, else those of the model."""
        return model.heads if self.frozen_heads is None else self.frozen_heads

    def on_refresh(self, model: MultimodalClassifier) -> None:
        """Copy the current heads to the frozen ones."""
        if self.frozen_heads is not None:
            self.frozen_heads.load_state_dict(model.heads.state_dict())

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return the terms of `CPSC.losses`; with ``weigh = encoders`` the weights apply to the encoders' gradients."""
        if self.config.weigh == "samples" or qhat is None:
            return super().losses(model, features, labels, qhat, present)
        self._scale = GradientScale(features)
        try:
            return super().losses(model, self._scale.features, labels, qhat, present)
        finally:
            self._scale = None

    def gradient_weights(self, reliability: Heads, present: Present = COMPLETE) -> Heads:
        """Return the weights of the unimodal losses; ones if the encoders' gradients are weighted."""
        weights = super().gradient_weights(reliability, present)
        if self._scale is None:
            return weights
        self._scale.weights = {m: mean_present(w, present.get(m)) for m, w in weights.items()}
        return {m: torch.ones_like(w) for m, w in weights.items()}


@dataclass(frozen=True, kw_only=True)
class LiteralConfig(CPSCConfig, name="cpsc-literal"):
    """Most literal reading of the summary of the paper, with options of the released code; for comparison."""

    method = LiteralCPSC
    search = {}

    parts: Parts = "both"
    """Parts of the paper in use."""
    residual: float = 1.0
    """Fraction γ of the component in the mix with the feature; 1 in the paper, .05 in most of the released code."""
    inference: Literal["features", "mean", "collaborative"] = "features"
    """With RSC, representation of a modality without a label."""
    match_magnitude: bool = False
    """Whether components are scaled to the norm of the feature before they are mixed with it."""
    mixing: Literal["convex", "additive"] = "convex"
    """``convex``: c ← (1−γ)h + γc; ``additive``: c ← h + γc."""
    decomposition: Literal["linear", "mlp"] = "linear"
    """One linear layer with ReLU on the components, or the two layers of the released code."""
    reliability: Literal["normalized", "reciprocal"] = "normalized"
    """1 − rank / set size, or 1 / (rank + 1) of the released code; 0 outside the set."""
    divergence: Literal["kl", "js", "js-reversed"] = "kl"
    """Divergence between distributions over the feature axis: ``kl`` of the paper, which is unbounded when
    maximised and destroys the features; the bounded ``js``; or ``js-reversed`` of the released code, also unbounded."""
    weigh: Literal["samples", "encoders"] = "samples"
    """Target of the gradient weights: each sample's unimodal loss, or, with the mean ρ of the batch, the gradient that
    reaches a modality's encoder, as in the released code."""
    frozen_heads: bool = False
    """Whether reliability is rated by copies of the heads made at the last refresh, as in the released code; with
    ``conformal.refresh`` ``epoch`` or ``interval:K``."""

    @property
    def needs_full_refresh(self) -> bool:
        """Whether heads are frozen."""
        return self.frozen_heads


class GradientScale:
    """Features whose gradients are multiplied, on their way to the encoders, by weights that are set later."""

    def __init__(self, features: Heads) -> None:
        self.weights: Heads = {}
        self.features = {m: h.view_as(h) for m, h in features.items()}
        for m, h in self.features.items():
            if h.requires_grad:
                h.register_hook(lambda gradient, m=m: gradient * self.weights[m])  # type: ignore[no-untyped-call]  # torch's
