"""MLA: modalities learn in turns with a shared head whose gradient is projected to preserve the previous turn.

Source: Zhang et al., *Multimodal Representation Learning by Alternating Unimodal Adaptation*, CVPR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cpsc_train.methods.base import AllReduce, EpochMethod, Heads, Quantiles, StepLosses, head_cross_entropy
from cpsc_train.methods.options import POSITIVE, MethodConfig, Range
from cpsc_train.models import (
    COMPLETE,
    FUSED,
    MultimodalClassifier,
    Present,
    numbers_present,
    only_present,
    softmax_present,
    stacked,
)


class MLA(EpochMethod):
    """In its turn, modality m is trained by the cross-entropy of the shared head on its features.

    The gradient of the head's matrix is multiplied by P, which every turn but the first updates with the mean feature x
    of the turn before: P ← P − P x xᵀ P / (α + xᵀ P x), so the head's output for x is unchanged. The update of the
    released code is `released_projection`, with the mean feature of this turn, and α that falls to a tenth in an epoch.
    The fused logits are Σ_m w_m z_m, where w is a softmax over modalities of minus the entropy of each.
    """

    config: MLAConfig
    projection: Tensor
    before: Tensor
    seen: Tensor

    def __init__(self, config: MLAConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self.steps_per_batch = len(modalities)
        self.head = nn.Linear(model.dim, model.classes)
        self.register_buffer("projection", torch.eye(model.dim))
        self.register_buffer("before", torch.zeros(model.dim))
        self.register_buffer("seen", torch.zeros(()))
        self._rows, self._turn = 1, 0

    def on_fit_start(self, rows: int) -> None:
        """Store the number of training rows."""
        self._rows = rows

    def on_epoch_start(self, epoch: int, all_reduce: AllReduce) -> None:
        """Store the epoch, and count the rows of a new one from 0."""
        self.seen.copy_(torch.where(self.epoch == epoch, self.seen, 0.0))
        super().on_epoch_start(epoch, all_reduce)

    def on_step_start(self, step: int) -> tuple[str, ...]:
        """Return the modality of this turn."""
        self._turn = step
        return (self.modalities[step],)

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_<modality>`` of this turn's modality."""
        ((modality, h),) = features.items()
        mask = present.get(modality)
        logits = only_present(self.head(h), mask)
        rows = torch.full((), float(len(h)), device=h.device)
        self.sums.add(h.detach().float().sum(0), numbers_present([modality], present, h)[0], rows)
        return StepLosses({f"ce_{modality}": head_cross_entropy(logits, labels, mask)}, {modality: logits})

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: AllReduce) -> None:
        """Project the gradient of the head, and store the mean feature for the next turn."""
        features, samples, rows = self.sums.pop(all_reduce)
        mean = features / samples.clamp(min=1)
        if self.config.projection == "paper":
            # Before the first turn the mean is zero, which leaves P unchanged.
            p = projected(self.projection, self.before, self.config.alpha)
        else:
            p = released_projection(self.projection, mean, self.config.alpha * 0.1 ** (self.seen / self._rows))
            p = torch.where(self.before.any(), p, self.projection)
        self.projection.copy_(p)
        gradient = self.head.weight.grad
        if gradient is not None:
            gradient.copy_(gradient @ self.projection.T)
        self.before.copy_(mean)
        if self._turn == len(self.modalities) - 1:
            self.seen += rows

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return logits of the shared head, and their sum weighted by entropy."""
        logits = {m: only_present(self.head(h), present.get(m)) for m, h in features.items()}
        votes = torch.stack(list(logits.values()))
        weights = softmax_present(-entropy(votes), stacked(logits, present, votes[0]))
        return logits | {FUSED: (weights[..., None] * votes).sum(0)}


@dataclass(frozen=True, kw_only=True)
class MLAConfig(MethodConfig, name="mla"):
    """One optimizer step a modality, a shared head with projected gradients, and fusion by entropy."""

    source = "Zhang et al., Multimodal Representation Learning by Alternating Unimodal Adaptation, CVPR 2024"
    method = MLA
    rules = {"alpha": POSITIVE}
    search = {"alpha": Range(1e-3, 10.0, log=True), "projection": ("paper", "released")}

    alpha: float = 0.1
    """Regularisation of the projection; a smaller value removes more of the head's gradient."""
    projection: Literal["paper", "released"] = "paper"
    """Update of the projection: recursive least squares, or that of the released code, which divides elementwise, keeps
    the Frobenius norm at 1, uses the features of this turn, and lets α fall to a tenth of ``alpha`` in every epoch."""


def projected(projection: Tensor, direction: Tensor, alpha: float) -> Tensor:
    """Return P − P x xᵀ P / (α + xᵀ P x), symmetric (d, d), for x (d,).

    Examples
    --------
    >>> p = projected(torch.eye(2), torch.tensor([3.0, 0.0]), alpha=1e-6)
    >>> torch.allclose(p, torch.tensor([[0.0, 0.0], [0.0, 1.0]]), atol=1e-6)
    True
    """
    along = projection @ direction
    return projection - torch.outer(along, along) / (alpha + direction @ along)


def released_projection(projection: Tensor, direction: Tensor, alpha: Tensor) -> Tensor:
    """Return P − k kᵀ ⊘ (α + k xᵀ), over its Frobenius norm, with k = P x and elementwise division, for x (d,).

    An entry of the denominator may be 0: the features of the source are not negative, others may be.
    """
    along = projection @ direction
    new = projection - torch.outer(along, along) / (alpha + torch.outer(along, direction))
    unit: Tensor = new / new.norm()
    return unit


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy (...) in nats of softmax(logits (..., C)); finite for probabilities of zero."""
    logs = logits.float().log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)
