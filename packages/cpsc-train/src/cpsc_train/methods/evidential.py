"""TMC and ECML: modalities give evidence, and their opinions are combined with their uncertainty.

Sources: Han et al., *Trusted Multi-View Classification*, ICLR 2021; Xu et al., *Reliable Conflictive Multi-View
Learning*, AAAI 2024. Both anneal over 50 of 500 epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from cpsc_train.methods.base import EpochMethod, Heads, Quantiles, StepLosses
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, mean_present, only_present, stacked


class TMC(EpochMethod):
    """Heads give evidence e = softplus(z) of a Dirichlet distribution, α = e + 1; the model's fusion is unused."""

    config: TMCConfig | ECMLConfig
    static_graph = True

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``evidence_<head>``."""
        alphas = self.dirichlet(model, features, present)
        weight = (self.epoch / self.config.annealing).clamp(max=1)
        scale = self.evidence_weight(len(alphas))
        terms = {
            f"evidence_{head}": scale * evidential_loss(a, labels, weight, present.get(head))
            for head, a in alphas.items()
        }
        return StepLosses(terms | self.conflict([alphas[m] for m in features]), _logits(alphas))

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return log(α / S), whose softmax is the expected probability of each class."""
        return _logits(self.dirichlet(model, features, present))

    def dirichlet(self, model: MultimodalClassifier, features: Heads, present: Present = COMPLETE) -> Heads:
        """Return α (B, C) by head; a modality that a sample lacks gives no evidence, α = 1."""
        evidence = {m: softplus(model.heads[m](h).float()) for m, h in features.items()}
        alphas = {m: only_present(e, present.get(m)) + 1 for m, e in evidence.items()}
        given = list(alphas.values())
        return alphas | {FUSED: self.fuse(given, stacked(alphas, present, given[0]))}

    def fuse(self, alphas: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Return the α (B, C) of the decision, by Dempster's rule, to which an opinion without evidence is neutral.

        `mask` (M, B) is true for samples that have a modality; None means all.
        """
        return dempster(alphas)

    def evidence_weight(self, heads: int) -> float:
        """Return the weight of the evidential loss of each of the heads, ``fused`` among them."""
        return 1.0

    def conflict(self, alphas: Sequence[Tensor]) -> Heads:
        """Return loss terms of the modalities' α; none here."""
        return {}


class ECML(TMC):
    """The mean of the evidence of all modalities, the mean of the heads' losses, and a loss on conflict.

    The mean over all modalities is that of the paper. The released code averages in sequence, ((e₁ + e₂)/2 + e₃)/2,
    which is the same for two modalities only.
    """

    config: ECMLConfig

    def fuse(self, alphas: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Return the α (B, C) of the decision, of the mean evidence of the modalities that a sample has."""
        return mean_evidence(alphas, mask)

    def evidence_weight(self, heads: int) -> float:
        """Return 1 / (M + 1)."""
        return 1 / heads

    def conflict(self, alphas: Sequence[Tensor]) -> Heads:
        """Return ``conflict``, unless its weight is 0."""
        weight = self.config.conflict
        return {"conflict": weight * conflict(alphas)} if weight else {}


@dataclass(frozen=True, kw_only=True)
class TMCConfig(MethodConfig, name="tmc"):
    """Trusted multi-view classification: Dempster's rule on subjective opinions."""

    source = "Han et al., Trusted Multi-View Classification, ICLR 2021"
    method = TMC
    rules = {"annealing": COUNT}
    shares = {"annealing": 0.1}
    search = {"annealing": Range(0.02, 2.5, log=True, share=True)}

    annealing: int = 50
    """Epochs over which the weight of the divergence from ignorance rises to 1; the source has 50 of 500."""


@dataclass(frozen=True, kw_only=True)
class ECMLConfig(MethodConfig, name="ecml"):
    """Evidential conflictive multi-view learning: the mean of the evidence, and a loss on conflict."""

    source = "Xu et al., Reliable Conflictive Multi-View Learning, AAAI 2024"
    method = ECML
    rules = {"annealing": COUNT, "conflict": NOT_NEGATIVE}
    shares = {"annealing": 0.1}
    search = {"annealing": Range(0.02, 2.5, log=True, share=True), "conflict": Range(0.1, 4.0, log=True)}

    annealing: int = 50
    """Epochs over which the weight of the divergence from ignorance rises to 1; the source has 50 of 500."""
    conflict: float = 1.0
    """Weight of the conflict between opinions that are both certain."""


def dempster(alphas: Sequence[Tensor]) -> Tensor:
    """Return the α (B, C) of opinions combined by Dempster's rule, one after another.

    b = (b₁b₂ + b₁u₂ + b₂u₁) / (1 − K), u = u₁u₂ / (1 − K), K = Σ_{i≠j} b₁ᵢb₂ⱼ.
    """
    return reduce(_combined, alphas)


def _combined(one: Tensor, other: Tensor) -> Tensor:
    classes = one.shape[-1]
    s1, s2 = one.sum(-1, keepdim=True), other.sum(-1, keepdim=True)
    b1, b2, u1, u2 = (one - 1) / s1, (other - 1) / s2, classes / s1, classes / s2
    # The strength is S = C / u, and the evidence b S, so 1 − K, which divides both b and u, cancels.
    return classes * (b1 * b2 + b1 * u2 + b2 * u1) / (u1 * u2) + 1


def mean_evidence(alphas: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """Return the α (B, C) of the mean evidence, over the modalities that a sample has by `mask` (M, B)."""
    stack = torch.stack(list(alphas))
    return stack.mean(0) if mask is None else (stack - 1).sum(0) / mask.sum(0).clamp(min=1)[:, None] + 1


def evidential_loss(alpha: Tensor, labels: Tensor, weight: Tensor, present: Tensor | None = None) -> Tensor:
    """Return Σ_y y(ψ(S) − ψ(α_y)) + weight · KL(Dir(α̃) ‖ Dir(1)), the mean over samples that are `present` (B,).

    α̃ is α without the evidence of the true class. `alpha` is (B, C), above 1; `labels` (B,); `weight` 0-d in [0, 1].
    """
    true = one_hot(labels, alpha.shape[-1]).to(alpha.dtype)
    fit = (true * (alpha.sum(-1, keepdim=True).digamma() - alpha.digamma())).sum(-1)
    return mean_present(fit + weight * divergence_from_ignorance(true + (1 - true) * alpha), present)


def divergence_from_ignorance(alpha: Tensor) -> Tensor:
    """Return KL(Dir(α) ‖ Dir(1)) of (B, C), (B,)."""
    strength = alpha.sum(-1, keepdim=True)
    constant = strength[..., 0].lgamma() - alpha.lgamma().sum(-1) - math.lgamma(alpha.shape[-1])
    return constant + ((alpha - 1) * (alpha.digamma() - strength.digamma())).sum(-1)


def conflict(alphas: Sequence[Tensor]) -> Tensor:
    """Return the mean over samples of Σ_{i≠j} ½ Σ_k |p_ik − p_jk| (1 − u_i)(1 − u_j) / (M − 1)."""
    strengths = [a.sum(-1) for a in alphas]
    classes = alphas[0].shape[-1]
    result = alphas[0].new_zeros(len(alphas[0]))
    for i, j in combinations(range(len(alphas)), 2):
        apart = (alphas[i] / strengths[i][:, None] - alphas[j] / strengths[j][:, None]).abs().sum(-1) / 2
        sure = (1 - classes / strengths[i]) * (1 - classes / strengths[j])
        result = result + 2 * apart * sure / (len(alphas) - 1)
    return result.mean()


def _logits(alphas: Heads) -> Heads:
    return {head: (a / a.sum(-1, keepdim=True)).log() for head, a in alphas.items()}
