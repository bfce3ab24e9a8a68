"""LFM: modalities are brought to agree first, and to classify later; the balance is learned on the way.

Source: Yang et al., *Facilitating Multimodal Classification via Dynamically Learning Modality Gap*, NeurIPS 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.methods.base import AllReduce, EpochMethod, Heads, Quantiles, StepLosses, flat_gradient, total, trained
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, MethodConfig, Range, Rule
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, stacked

Divergence = Literal["js", "js-reversed"]
LEAST, LARGEST = 0.05, 0.95
"""Bounds of a learned weight."""
FITTED = (2.04623704e-1, 3.35472727e-3, 1.22989557e-4, -2.92947416e-6, 2.23835486e-8, -5.39717505e-11)
"""Coefficients c of the fitted weight of the cross-entropy, Σ_i c_i tⁱ."""
FITTED_EPOCHS = 200
"""Epochs t that the coefficients were fitted to."""


class LFM(EpochMethod):
    """2 (α₀ CE(fused) + α₁ JS), where JS is the mean over pairs of modalities and α₀ = 1 − α₁.

    With the learned balance the rows of every step are divided by even and odd index: α₁ follows the derivative of the
    cross-entropy of the odd half after a step of gradient descent on the even one, −2 g₂ · (∇JS − ∇CE) times the
    learning rate. The model learns from all rows. Cost: two more backward passes. The fitted balance is a polynomial of
    the epoch, which the authors fitted to a run of 200 epochs with a learned one.
    """

    config: LFMConfig
    divergence: Tensor

    def __init__(self, config: LFMConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self.register_buffer("divergence", torch.tensor(config.start))
        self._halves: tuple[Tensor, Tensor] | None = None

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused`` and ``js``."""
        logits = model.classify(features, present)
        each = cross_entropy(logits[FUSED], labels, reduction="none")
        mask = stacked(features, present, labels)
        apart = disagreement({m: logits[m] for m in features}, mask, kind=self.config.divergence)
        if mask is not None:  # the mean over all samples is then that over those with a pair
            apart = apart * (len(labels) / (mask.sum(0) >= 2).sum().clamp(min=1))
        if self._learned:
            even = (self.rows % 2 == 0).to(each.dtype)
            self._halves = ((apart - each) @ even, each @ (1 - even))
        weight = self.divergence.clone() if self.config.balance == "learned" else self._fitted()
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
        if not self._learned:
            return
        gradients, samples = self.sums.pop(all_reduce)
        first, second = gradients / samples.clamp(min=1)[:, None]
        self.divergence += self.config.rate * 2 * first @ second
        self.divergence.clamp_(LEAST, LARGEST)

    @property
    def _learned(self) -> bool:
        return self.config.balance == "learned" and self.config.rate > 0

    def _fitted(self) -> Tensor:
        t = FITTED_EPOCHS * self.epoch.double() / self.config.epochs
        cross_entropy_weight = torch.stack([c * t**i for i, c in enumerate(FITTED)]).sum()
        return (1 - cross_entropy_weight).to(self.divergence.dtype)


@dataclass(frozen=True, kw_only=True)
class LFMConfig(MethodConfig, name="lfm"):
    """Cross-entropy of the fused logits and a divergence between modalities, with a learned balance."""

    source = "Yang et al., Facilitating Multimodal Classification via Dynamically Learning Modality Gap, NeurIPS 2024"
    method = LFM
    rules = {
        "start": Rule(f"must lie in [{LEAST}, {LARGEST}]", lambda value: LEAST <= value <= LARGEST),
        "rate": NOT_NEGATIVE,
        "epochs": COUNT,
    }
    shares = {"epochs": 1.0}
    search = {
        "balance": ("learned", "fitted"),
        "start": Range(LEAST, LARGEST),
        "rate": Range(1e-3, 1.0, log=True),
    }

    balance: Literal["learned", "fitted"] = "learned"
    """Balance of the two losses: ``learned`` in every step, or ``fitted``, the polynomial of the authors' code, whose
    weight of the divergence falls from .80 to .10."""
    start: float = 0.95
    """Initial weight of the divergence if it is learned; that of the cross-entropy is one minus it."""
    rate: float = 0.05
    """Learning rate of the learned weight, times that of the model; 0 keeps the weight constant."""
    epochs: int = FITTED_EPOCHS
    """Epochs of the fitted balance."""
    divergence: Divergence = "js"
    """Divergence between modalities: ``js``, the Jensen-Shannon divergence of the paper, or ``js-reversed``, the mean
    of KL(m ‖ p) and KL(m ‖ q) of the authors' code, which has no upper bound."""


def disagreement(logits: Heads, mask: Tensor | None = None, *, kind: Divergence = "js") -> Tensor:
    """Return the divergence (B,) in nats, the mean over pairs of modalities, of logits {m: (B, C)}.

    Only pairs count of which a sample has both modalities by `mask` (M, B); without any it is 0.

    With m = (p + q)/2, ``js`` is ½ KL(p ‖ m) + ½ KL(q ‖ m), and ``js-reversed`` ½ KL(m ‖ p) + ½ KL(m ‖ q).

    Examples
    --------
    >>> opposite = {"a": torch.tensor([[200.0, 0.0]]), "b": torch.tensor([[0.0, 200.0]])}
    >>> torch.allclose(disagreement(opposite), torch.tensor(2.0).log())
    True
    """
    logs = [z.float().log_softmax(-1) for z in logits.values()]
    between = _jensen_shannon if kind == "js" else _reversed
    apart = torch.stack([between(p, q) for p, q in combinations(logs, 2)])
    if mask is None:
        return apart.mean(0)
    both = torch.stack([p & q for p, q in combinations(mask, 2)])
    return torch.where(both, apart, 0.0).sum(0) / both.sum(0).clamp(min=1)


def _reversed(p: Tensor, q: Tensor) -> Tensor:
    middle = torch.logaddexp(p, q) - math.log(2)
    return (middle.exp() * (middle - 0.5 * (p + q))).sum(-1)


def _jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    middle = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * (p.exp() * (p - middle) + q.exp() * (q - middle)).sum(-1)
