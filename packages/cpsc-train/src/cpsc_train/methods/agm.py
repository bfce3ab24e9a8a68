"""AGM: what each modality contributes to the decision is told apart, and its gradient scaled by how far it is ahead.

Source: Li et al., *Boosting Multi-modal Model Performance with Adaptive Gradient Modulation*, ICCV 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.evaluation.shapley import shapley
from cpsc_train.methods.base import Heads, Method, StepLosses, zeroed
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import MultimodalClassifier

LEAST = 1e-8
"""Probability below which a true class is not told from an impossible one."""
MOST = 10.0
"""Largest difference of ratios that counts, so that the exponential stays finite."""


@dataclass(frozen=True, kw_only=True)
class AGMConfig(MethodConfig, name="agm"):
    """Adaptive gradient modulation, by the Shapley value of each modality in the fused logits."""

    source = "Li et al., Boosting Multi-modal Model Performance with Adaptive Gradient Modulation, ICCV 2023"
    rules = MappingProxyType({"alpha": NOT_NEGATIVE})
    search = MappingProxyType({"alpha": Range(0.1, 2.0)})

    alpha: float = 1.0
    """How strongly gradients are scaled; 0 is joint training."""

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        return AGM(self.alpha, modalities)


class AGM(Method):
    """Cross-entropy of the fused logits, of which modality m's part φ_m passes on κ_m times its gradient.

    φ_m is the Shapley value of the fused logits, where modalities that are absent are zeros; the φ add up to the fused
    logits. s_m is the mean cross-entropy of softmax φ_m, r_m = exp(mean of the others' s − s_m), τ_m the same of
    running means of s, and κ_m = exp(α (τ_m − r_m)). r is that of a process's share of a batch, τ of all processes.

    Parameters
    ----------
    alpha
        α.
    modalities
        Their names.
    """

    running: Tensor
    steps: Tensor

    def __init__(self, alpha: float, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.alpha = alpha
        self._modalities = modalities
        self.register_buffer("running", torch.zeros(len(modalities)))
        self.register_buffer("steps", torch.zeros(()))
        self._seen: list[tuple[Tensor, Tensor]] = []

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return ``ce_fused``."""
        logits = model.classify(features)
        parts = shapley(self._modalities, lambda kept: zeroed(model, features, kept))
        with torch.no_grad():
            each = torch.stack([cross_entropy(parts[m].float(), labels, reduction="none") for m in self._modalities])
            scores = each.clamp(max=-math.log(LEAST)).mean(1)
            self._seen.append((scores * len(labels), torch.ones_like(scores) * len(labels)))
            kappa = coefficients(scores, self.running, self.alpha)
        fused = torch.stack(
            [k * parts[m] + (1 - k) * parts[m].detach() for m, k in zip(self._modalities, kappa, strict=True)]
        ).sum(0)
        diagnostics = {f"kappa_{m}": k for m, k in zip(self._modalities, kappa, strict=True)}
        return StepLosses({"ce_fused": cross_entropy(fused, labels)}, logits, diagnostics)

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Bring the running means up to date; gradients are left as they are."""
        scores, samples = (all_reduce(torch.stack(seen).sum(0)) for seen in zip(*self._seen, strict=True))
        self._seen.clear()
        self.steps += 1
        self.running += (scores / samples - self.running) / self.steps


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
    """Return by how much the others' mean is above each score."""
    return (scores.sum() - scores) / (len(scores) - 1) - scores
