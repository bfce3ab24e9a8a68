"""AGM: gradients scaled by how far each modality's contribution to the decision is ahead.

Source: Li et al., *Boosting Multi-modal Model Performance with Adaptive Gradient Modulation*, ICCV 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.evaluation.shapley import shapley
from cpsc_train.methods.base import AllReduce, Heads, Method, Quantiles, StepLosses, zeroed
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, MultimodalClassifier, Present, numbers_present, stacked

LEAST = 1e-8
"""Lower bound of the probability of a true class."""
MOST = 10.0
"""Upper bound of a difference of ratios, which keeps the exponential finite."""


class AGM(Method):
    """Cross-entropy of the fused logits, with the gradient through modality m's contribution φ_m multiplied by κ_m.

    φ_m is the Shapley value of the fused logits, with zeros for absent modalities; the φ add up to the fused logits.
    s_m is the mean cross-entropy of softmax φ_m, r_m = exp(mean of the others' s − s_m), τ_m the same of running means
    of s, and κ_m = exp(α (τ_m − r_m)). r is computed from a process's part of a batch, τ over all processes.
    """

    config: AGMConfig
    static_graph = True
    running: Tensor
    steps: Tensor

    def __init__(self, config: AGMConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self.register_buffer("running", torch.zeros(len(modalities)))
        self.register_buffer("steps", torch.zeros(()))

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused``."""
        logits = model.classify(features, present)
        parts = shapley(self.modalities, lambda kept: zeroed(model, features, kept, present))
        with torch.no_grad():
            each = torch.stack([cross_entropy(parts[m].float(), labels, reduction="none") for m in self.modalities])
            each = each.clamp(max=-math.log(LEAST))
            numbers = numbers_present(self.modalities, present, labels)
            mask = stacked(self.modalities, present, labels)
            if mask is None:
                scores = each.mean(1)
            else:  # the score of a modality that no sample has does not change
                mean = torch.where(mask, each, 0.0).sum(1) / numbers.clamp(min=1)
                scores = torch.where(numbers > 0, mean, self.running)
            self.sums.add(scores * numbers, numbers)
            kappa = coefficients(scores, self.running, self.config.alpha)
        fused = torch.stack(
            [k * parts[m] + (1 - k) * parts[m].detach() for m, k in zip(self.modalities, kappa, strict=True)]
        ).sum(0)
        diagnostics = {f"kappa_{m}": k for m, k in zip(self.modalities, kappa, strict=True)}
        return StepLosses({"ce_fused": cross_entropy(fused, labels)}, logits, diagnostics)

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: AllReduce) -> None:
        """Update the running means; gradients are unchanged."""
        scores, samples = self.sums.pop(all_reduce)
        self.steps += 1
        new = torch.where(samples > 0, scores / samples.clamp(min=1), self.running)
        self.running += (new - self.running) / self.steps


@dataclass(frozen=True, kw_only=True)
class AGMConfig(MethodConfig, name="agm"):
    """Adaptive gradient modulation by the Shapley value of each modality in the fused logits."""

    source = "Li et al., Boosting Multi-modal Model Performance with Adaptive Gradient Modulation, ICCV 2023"
    method = AGM
    rules = {"alpha": NOT_NEGATIVE}
    search = {"alpha": Range(0.1, 2.0)}

    alpha: float = 1.0
    """Strength of the scaling; 0 is joint training."""


def coefficients(scores: Tensor, running: Tensor, alpha: float) -> Tensor:
    """Return κ (M,) of the scores s (M,) of a batch and their running means (M,).

    Examples
    --------
    >>> ahead = torch.tensor([0.5, 1.5])  # a lower cross-entropy than the other, by 1
    >>> kappa = coefficients(ahead, torch.zeros(2), alpha=1.0)
    >>> torch.allclose(kappa, (1 - torch.tensor([1.0, -1.0]).exp()).exp())
    True
    """
    apart = (_lead(running).exp() - _lead(scores).exp()).clamp(max=MOST)
    return (alpha * apart).exp()


def _lead(scores: Tensor) -> Tensor:
    """Return the mean of the others minus each score."""
    return (scores.sum() - scores) / (len(scores) - 1) - scores
