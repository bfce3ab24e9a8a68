"""PMR: a prototypical cross-entropy for modalities that lag behind.

Source: Fan et al., *PMR: Prototypical Modal Rebalance for Multimodal Learning*, CVPR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from cpsc_train.methods.base import (
    AllReduce,
    Heads,
    Method,
    Quantiles,
    StepLosses,
    head_cross_entropy,
    true_probability,
)
from cpsc_train.methods.options import DECAY, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, only_present, per_sample


class PMR(Method):
    """A prototype is the moving average of the features of a class, updated in steps with samples of the class.

    s_m sums the softmax of −‖z − p‖ at the true class over the step before, of all processes. The prototypical
    cross-entropy of modality m has the weight α · min(1, s_best / s_m − 1), or α for each one that is behind with
    ``weight = released``: zero for the one that is ahead, and before all classes have prototypes.
    """

    config: PMRConfig
    static_graph = True
    prototypes: Tensor
    known: Tensor
    scores: Tensor

    def __init__(self, config: PMRConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        classes = model.classes
        self.register_buffer("prototypes", torch.zeros(len(modalities), classes, model.dim))
        self.register_buffer("known", torch.zeros(len(modalities), classes, dtype=torch.bool))
        self.register_buffer("scores", torch.ones(len(modalities)))

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused`` and ``prototype_<modality>``."""
        logits = model.classify(features, present)
        near = {m: self._similarities(p, features[m]) for m, p in zip(self.modalities, self.prototypes, strict=True)}
        with torch.no_grad():
            true = torch.stack(
                [only_present(true_probability(s, labels), present.get(m)).sum() for m, s in near.items()]
            )
            behind = self.scores.max() / self.scores.clamp(min=torch.finfo(self.scores.dtype).tiny) - 1
            lag = self.config.strength * (behind.sign() if self.config.weight == "released" else behind.clamp(max=1))
            classes = one_hot(labels, model.classes).to(self.prototypes.dtype)
            sums = [classes.T @ features[m].detach().to(classes.dtype) for m in self.modalities]
            counts = [only_present(classes, present.get(m)).sum(0) for m in self.modalities]
            self.sums.add(torch.stack(sums), torch.stack(counts), true)
        terms = {"ce_fused": cross_entropy(logits[FUSED], labels)}
        terms |= {
            f"prototype_{m}": w * head_cross_entropy(s, labels, present.get(m))
            for (m, s), w in zip(near.items(), lag, strict=True)
        }
        return StepLosses(terms, logits)

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: AllReduce) -> None:
        """Update prototypes and scores; gradients are unchanged."""
        sums, counts, true = self.sums.pop(all_reduce)
        self.scores.copy_(torch.where(self.known.all(), per_sample(true, counts.sum(1)), 1.0))
        seen = counts > 0
        means = sums / counts.clamp(min=1)[..., None]
        kept = torch.where(self.known, self.config.momentum, 0.0)[..., None]
        self.prototypes.copy_(
            torch.where(seen[..., None], kept * self.prototypes + (1 - kept) * means, self.prototypes)
        )
        self.known |= seen

    @staticmethod
    def _similarities(prototypes: Tensor, features: Tensor) -> Tensor:
        """Return −‖z − p‖ (B, C), with a finite gradient at 0."""
        squared = (features.float()[:, None] - prototypes[None]).square().sum(-1)
        return -(squared + 1e-12).sqrt()


@dataclass(frozen=True, kw_only=True)
class PMRConfig(MethodConfig, name="pmr"):
    """Joint cross-entropy, and a prototypical one for modalities that lag behind."""

    source = "Fan et al., PMR: Prototypical Modal Rebalance for Multimodal Learning, CVPR 2023"
    method = PMR
    rules = {"strength": NOT_NEGATIVE, "momentum": DECAY}
    search = {
        "strength": Range(0.1, 4.0, log=True),
        "momentum": Range(0.5, 0.99),
        "weight": ("paper", "released"),
    }

    strength: float = 1.0
    """Weight α of the prototypical cross-entropy; the source has 1 to 2."""
    momentum: float = 0.9
    """Fraction of a prototype that is kept in a step."""
    weight: Literal["paper", "released"] = "paper"
    """Weight of the slower modality: ``paper``: α times its lag, at most α; ``released``: α, that of the authors'
    code."""
