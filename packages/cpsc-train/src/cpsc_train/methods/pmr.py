"""PMR: the modality that lags behind is drawn to prototypes of its own classes.

Source: Fan et al., *PMR: Prototypical Modal Rebalance for Multimodal Learning*, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from cpsc_train.methods.base import Heads, Method, StepLosses
from cpsc_train.methods.options import DECAY, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import FUSED, MultimodalClassifier


@dataclass(frozen=True, kw_only=True)
class PMRConfig(MethodConfig, name="pmr"):
    """Joint cross-entropy, and a prototypical one for modalities that lag behind."""

    source = "Fan et al., PMR: Prototypical Modal Rebalance for Multimodal Learning, CVPR 2023"
    rules = MappingProxyType({"strength": NOT_NEGATIVE, "momentum": DECAY})
    search = MappingProxyType({"strength": Range(0.1, 4.0, log=True), "momentum": Range(0.5, 0.99)})

    strength: float = 1.0
    """Weight α of the prototypical cross-entropy; the source has 1 to 2."""
    momentum: float = 0.9
    """Share of a prototype that a step leaves."""

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        return PMR(self, modalities, model.dim, model.classes)


class PMR(Method):
    """A prototype is the moving average of the features of a class, in steps that hold any.

    s_m sums the softmax of −‖z − p‖ at the true class over the step before, of all processes. Of modality m the
    prototypical cross-entropy counts α · min(1, s_best / s_m − 1): nothing for the one that is ahead, or before there
    are prototypes of all classes.

    Parameters
    ----------
    config
        Options.
    modalities
        Their names.
    dim, classes
        d and C.
    """

    prototypes: Tensor
    known: Tensor
    scores: Tensor

    def __init__(self, config: PMRConfig, modalities: tuple[str, ...], dim: int, classes: int) -> None:
        super().__init__()
        self.config = config
        self._modalities, self._classes = modalities, classes
        self.register_buffer("prototypes", torch.zeros(len(modalities), classes, dim))
        self.register_buffer("known", torch.zeros(classes, dtype=torch.bool))
        self.register_buffer("scores", torch.ones(len(modalities)))
        self._sums: list[tuple[Tensor, Tensor, Tensor]] = []

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return ``ce_fused`` and ``prototype_<modality>``."""
        logits = model.classify(features)
        near = {m: self._similarities(p, features[m]) for m, p in zip(self._modalities, self.prototypes, strict=True)}
        with torch.no_grad():
            true = torch.stack([s.softmax(-1).gather(1, labels[:, None]).sum() for s in near.values()])
            tiny = torch.finfo(self.scores.dtype).tiny
            lag = self.config.strength * (self.scores.max() / self.scores.clamp(min=tiny) - 1).clamp(max=1)
            classes = one_hot(labels, self._classes).to(self.prototypes.dtype)
            sums = [classes.T @ features[m].detach().to(classes.dtype) for m in self._modalities]
            self._sums.append((torch.stack(sums), classes.sum(0), true))
        terms = {"ce_fused": cross_entropy(logits[FUSED], labels)}
        terms |= {f"prototype_{m}": w * cross_entropy(s, labels) for (m, s), w in zip(near.items(), lag, strict=True)}
        return StepLosses(terms, logits)

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Bring prototypes and scores up to date; gradients are left as they are."""
        sums, counts, true = (all_reduce(torch.stack(parts).sum(0)) for parts in zip(*self._sums, strict=True))
        self._sums.clear()
        self.scores.copy_(torch.where(self.known.all(), true, 1.0))
        there = counts > 0
        means = sums / counts.clamp(min=1)[:, None]
        kept = torch.where(self.known, self.config.momentum, 0.0)[:, None]
        self.prototypes.copy_(torch.where(there[:, None], kept * self.prototypes + (1 - kept) * means, self.prototypes))
        self.known |= there

    @staticmethod
    def _similarities(prototypes: Tensor, features: Tensor) -> Tensor:
        """Return −‖z − p‖ (B, C); its gradient is finite also where they are the same."""
        squared = (features.float()[:, None] - prototypes[None]).square().sum(-1)
        return -(squared + 1e-12).sqrt()
