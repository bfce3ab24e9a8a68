"""Conformal training: the size of prediction sets is minimised, with half of each batch as calibration rows.

Sources: Stutz et al., *Learning Optimal Conformal Classifiers*, ICLR 2022; Noorani et al., *Conformal Risk Minimization
with Variance Reduction*, 2024, for ``gradient = "reduced"``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.config.choice import FRACTION
from cpsc_train.methods.base import Heads, Method, Quantiles, StepLosses, head_cross_entropy
from cpsc_train.methods.options import NOT_NEGATIVE, POSITIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present

TINY = 1e-8
"""Added before the logarithm, as in the source."""


class ConformalTraining(Method):
    """log(classification + size · Ω) of soft prediction sets of the fused decision, and cross-entropies.

    Scores are s = −log p. τ is the soft quantile of the scores of the true classes in the first half of a batch, and a
    soft set in the other half contains class k to the degree σ((τ − s_k) / T). Ω is the mean of max(0, set size − 1),
    and the classification loss is the mean of 1 − the degree of the true class. With the loop's random order, the
    halves are random. τ is that of a process's part of a batch; a part of one sample has no sets.

    Differences from the source: it sorts softly by a sorting network instead of `soft_quantile`, its default α is 0.01
    with batches of 500, and by default it has no cross-entropy.
    """

    config: ConformalTrainingConfig
    static_graph = True

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``sets``, and those of ``ce_fused`` and ``ce_<modality>`` that have a weight."""
        config = self.config
        logits = model.classify(features, present)
        scores = -logits[FUSED].float().log_softmax(-1)
        loss, size = self._sets(scores, labels)
        terms = {"sets": loss}
        if config.cross_entropy:
            terms["ce_fused"] = config.cross_entropy * cross_entropy(logits[FUSED], labels)
        if config.unimodal:
            terms |= {
                f"ce_{m}": config.unimodal * head_cross_entropy(logits[m], labels, present.get(m)) for m in features
            }
        return StepLosses(terms, logits, {"soft_set_size": size})

    def _sets(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the mean size of the sets, of scores (B, C)."""
        config, half = self.config, len(labels) // 2
        if half == 0:
            return 0 * scores.sum(), scores.new_zeros(())
        true = scores.gather(1, labels[:, None])[:, 0]
        quantile = reduced_quantile if config.gradient == "reduced" else soft_quantile
        threshold = quantile(true[:half], config.alpha, config.width)
        sets = torch.sigmoid((threshold - scores[half:]) / config.temperature)
        sizes = sets.sum(-1)
        left_out = 1 - sets.gather(1, labels[half:, None])[:, 0]
        loss = left_out.mean() + config.size * (sizes - 1).clamp(min=0).mean()
        return (loss + TINY).log(), sizes.mean()


@dataclass(frozen=True, kw_only=True)
class ConformalTrainingConfig(MethodConfig, name="conformal-training"):
    """Conformal training: the size of soft prediction sets, calibrated on half of each batch."""

    source = "Stutz et al., Learning Optimal Conformal Classifiers, ICLR 2022"
    method = ConformalTraining
    rules = {
        "alpha": FRACTION,
        "temperature": POSITIVE,
        "width": POSITIVE,
        "size": NOT_NEGATIVE,
        "cross_entropy": NOT_NEGATIVE,
        "unimodal": NOT_NEGATIVE,
    }
    search = {
        "alpha": Range(0.01, 0.3, log=True),
        "temperature": Range(0.05, 2.0, log=True),
        "size": Range(0.01, 10.0, log=True),
        "gradient": ("quantile", "reduced"),
    }

    alpha: float = 0.1
    """Miscoverage of the sets in training."""
    temperature: float = 1.0
    """Temperature T of membership; the source has 0.1 to 1."""
    size: float = 1.0
    """Weight of the size of sets; the source has 0.01 to 5."""
    gradient: Literal["quantile", "reduced"] = "quantile"
    """``quantile``: the gradient of τ is that of a soft quantile; ``reduced``: the mean gradient of all scores within
    ``width`` of τ, which has less variance."""
    width: float = 0.1
    """In units of the score: temperature of the soft quantile, or the distance from τ."""
    cross_entropy: float = 1.0
    """Weight of the cross-entropy of the fused logits."""
    unimodal: float = 1.0
    """Weight of the cross-entropies of the modalities."""


def rank(count: int, alpha: float) -> int:
    """Return ⌈(n + 1)(1 − α)⌉, at most n.

    Examples
    --------
    >>> rank(32, 0.1), rank(5, 0.1)
    (30, 5)
    """
    return min(count, math.ceil((count + 1) * (1 - alpha)))


def soft_quantile(scores: Tensor, alpha: float, width: float) -> Tensor:
    """Return a soft k-th smallest of scores (n,), 0-d, k = `rank`: a mean weighted by softmax(−|s − s_(k)| / width).

    This is a row of SoftSort (Prillo and Eisenschlos, ICML 2020); for width → 0 it is s_(k).

    Examples
    --------
    >>> soft_quantile(torch.tensor([3.0, 0.0, 9.0]), alpha=0.5, width=1e-3).item()
    3.0
    """
    exact = scores.sort().values[rank(len(scores), alpha) - 1]
    return (-(scores - exact).abs() / width).softmax(0) @ scores


def reduced_quantile(scores: Tensor, alpha: float, width: float) -> Tensor:
    """Return the k-th smallest of scores (n,), 0-d, with the mean gradient of the scores within `width` of it.

    Examples
    --------
    >>> scores = torch.tensor([3.0, 0.0, 3.5, 9.0], requires_grad=True)
    >>> torch.autograd.grad(reduced_quantile(scores, alpha=0.5, width=1.0), scores)[0].tolist()
    [0.5, 0.0, 0.5, 0.0]
    """
    exact = scores.detach().sort().values[rank(len(scores), alpha) - 1]
    near = ((scores.detach() - exact).abs() <= width).to(scores.dtype)
    mean = (near @ scores) / near.sum()
    return exact + mean - mean.detach()
