"""LFM: modalities are brought to agree first, and to classify later; the balance is learned on the way.

Source: Yang et al., *Facilitating Multimodal Classification via Dynamically Learning Modality Gap*, NeurIPS 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.methods.base import AllReduce, Heads, Method, StepLosses, flat_gradient, total, trained
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range, Rule
from cpsc_train.models import FUSED, MultimodalClassifier

LEAST, LARGEST = 0.05, 0.95
"""Bounds of the weight."""


class LFM(Method):
    """2 (α₀ CE(fused) + α₁ JS), where JS is the mean over pairs of modalities and α₀ = 1 − α₁.

    The rows of every step are divided by even and odd index: α₁ follows the derivative of the cross-entropy of the odd
    half after a step of gradient descent on the even one, −2 g₂ · (∇JS − ∇CE) times the learning rate. The model
    learns from all rows. Cost: two more backward passes.
    """

    config: LFMConfig
    divergence: Tensor

    def __init__(self, config: LFMConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self.register_buffer("divergence", torch.tensor(config.start))
        self._halves: tuple[Tensor, Tensor] | None = None

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return ``ce_fused`` and ``js``."""
        logits = model.classify(features)
        each = cross_entropy(logits[FUSED], labels, reduction="none")
        apart = disagreement({m: logits[m] for m in features})
        if self.config.rate:
            even = (self.rows % 2 == 0).to(each.dtype)
            self._halves = ((apart - each) @ even, each @ (1 - even))
        weight = self.divergence.clone()
        terms = {"ce_fused": 2 * (1 - weight) * each.mean(), "js": 2 * weight * apart.mean()}
        return StepLosses(terms, logits, {"weight_js": weight})

    def backward(
        self, model: MultimodalClassifier, terms: dict[str, Tensor], backward: Callable[[Tensor], None]
    ) -> None:
        """Compute the gradients of both halves, then that of the loss."""
        if self._halves is not None:
            parameters = trained(model)
            gradients = torch.stack([flat_gradient(loss, parameters) for loss in self._halves])
            even = (self.rows % 2 == 0).to(gradients.dtype)
            self.sums.add(gradients, torch.stack([even.sum(), (1 - even).sum()]))
            self._halves = None
        backward(total(terms))

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: AllReduce) -> None:
        """Update the weight; gradients are unchanged."""
        if not self.config.rate:
            return
        gradients, samples = self.sums.pop(all_reduce)
        first, second = gradients / samples.clamp(min=1)[:, None]
        self.divergence += self.config.rate * 2 * first @ second
        self.divergence.clamp_(LEAST, LARGEST)


@dataclass(frozen=True, kw_only=True)
class LFMConfig(MethodConfig, name="lfm"):
    """Cross-entropy of the fused logits and a divergence between modalities, with a learned balance."""

    source = "Yang et al., Facilitating Multimodal Classification via Dynamically Learning Modality Gap, NeurIPS 2024"
    method = LFM
    rules = {
        "start": Rule(f"must lie in [{LEAST}, {LARGEST}]", lambda value: LEAST <= value <= LARGEST),
        "rate": NOT_NEGATIVE,
    }
    search = {"start": Range(LEAST, LARGEST), "rate": Range(1e-3, 1.0, log=True)}

    start: float = 0.95
    """Initial weight of the divergence; that of the cross-entropy is one minus it."""
    rate: float = 0.05
    """Learning rate of the weight, times that of the model; 0 keeps the weight constant."""


def disagreement(logits: Heads) -> Tensor:
    """Return the Jensen-Shannon divergence (B,) in nats, the mean over pairs of modalities, of logits {m: (B, C)}.

    Examples
    --------
    >>> opposite = {"a": torch.tensor([[200.0, 0.0]]), "b": torch.tensor([[0.0, 200.0]])}
    >>> torch.allclose(disagreement(opposite), torch.tensor(2.0).log())
    True
    """
    logs = [z.float().log_softmax(-1) for z in logits.values()]
    return torch.stack([_jensen_shannon(p, q) for p, q in combinations(logs, 2)]).mean(0)


def _jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    middle = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * (p.exp() * (p - middle) + q.exp() * (q - middle)).sum(-1)
