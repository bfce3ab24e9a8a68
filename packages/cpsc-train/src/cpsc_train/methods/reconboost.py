"""ReconBoost: stages of epochs that train one modality on the others' errors, then all together.

Source: Hua et al., *ReconBoost: Boosting Can Achieve Modality Reconcilement*, ICML 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from cpsc_train.errors import UserError
from cpsc_train.methods.base import AllReduce, Heads, Method, Quantiles, StepLosses, true_probability
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, mean_present, stacked


class ReconBoost(Method):
    """Stage s trains modality m = s mod M: the mean of −(w₁ − w₂ p_y) log q_y, over samples and classes.

    q is the softmax of m, p that of the sum of the other trained modalities, uniform if there are none. Then all are
    trained by the cross-entropy of the fused logits, a learned rate times the sum over trained modalities.
    """

    config: ReconBoostConfig
    trained: Tensor

    def __init__(self, config: ReconBoostConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self._place, self._before, self._boosting = 0, -1, True
        self.rate = nn.Parameter(torch.ones(()))
        self.register_buffer("trained", torch.zeros(len(modalities)))

    def on_epoch_start(self, epoch: int, all_reduce: AllReduce) -> None:
        """Find the stage."""
        stage, place = divmod(epoch, self.config.epochs + self.config.together)
        self._place = stage % len(self.modalities)
        self._before = (stage - 1) % len(self.modalities) if stage else -1
        self._boosting = place < self.config.epochs
        self.trained[self._place] = 1.0

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``boosting`` and ``consolidation``, or ``ce_fused``."""
        logits = self.predict(model, features, qhat, present)
        if not self._boosting:
            return StepLosses({"ce_fused": cross_entropy(logits[FUSED], labels)}, logits)
        modality = self.modalities[self._place]
        own = logits[modality]
        with torch.no_grad():
            others = [self.trained[i] * logits[m] for i, m in enumerate(self.modalities) if i != self._place]
            right = true_probability(self.rate * torch.stack(others).sum(0), labels)
        each = (self.config.alone - self.config.reconcile * right) * cross_entropy(own, labels, reduction="none")
        terms = {"boosting": mean_present(each, present.get(modality)) / own.shape[-1]}
        if self._before >= 0 and self.config.consolidation:
            other = self.modalities[self._before]
            before = logits[other].detach().float().softmax(-1)
            distance = mse_loss(own.float().softmax(-1), before, reduction="none")
            both = stacked((modality, other), present, labels)
            distance = distance.mean() if both is None else mean_present(distance.mean(-1), both.all(0))
            terms["consolidation"] = self.config.consolidation * distance
        return StepLosses(terms, logits)

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return logits, and the rate times their sum, over trained modalities if there are any."""
        logits = model.unimodal(features, present)
        counts = torch.stack([self.trained[self.modalities.index(m)] for m in logits])
        counts = torch.where(counts.sum() > 0, counts, 1.0)
        return logits | {FUSED: self.rate * (counts[:, None, None] * torch.stack(list(logits.values()))).sum(0)}


@dataclass(frozen=True, kw_only=True)
class ReconBoostConfig(MethodConfig, name="reconboost"):
    """Gradient boosting over modalities, in stages; the model's fusion is unused."""

    source = "Hua et al., ReconBoost: Boosting Can Achieve Modality Reconcilement, ICML 2024"
    method = ReconBoost
    rules = {"epochs": COUNT, "together": NOT_NEGATIVE, "consolidation": NOT_NEGATIVE}
    shares = {"epochs": 0.05, "together": 0.05}
    search = {"reconcile": Range(0.0, 4.0), "consolidation": Range(0.0, 2.0)}

    epochs: int = 4
    """Epochs of a stage in which one modality is trained."""
    together: int = 4
    """Epochs after a stage in which all are trained (global rectification)."""
    alone: float = 5.0
    """Weight of a modality's own cross-entropy."""
    reconcile: float = 1.0
    """Reduction of that weight, times the probability of the true class under the others."""
    consolidation: float = 0.5
    """Weight of the squared distance to the modality of the stage before. The released code detaches it, which is the
    same as 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.reconcile < self.alone:
            raise UserError(
                f"method.reconcile and method.alone must be 0 ≤ reconcile < alone, got {self.reconcile}, {self.alone}"
            )
