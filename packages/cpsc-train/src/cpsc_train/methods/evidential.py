"""TMC and ECML: each modality gives evidence, and opinions are combined with what is known of their uncertainty.

Sources: Han et al., *Trusted Multi-View Classification*, ICLR 2021; Xu et al., *Reliable Conflictive Multi-View
Learning*, AAAI 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from cpsc_train.methods.base import Heads, Method, StepLosses
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import FUSED, MultimodalClassifier


@dataclass(frozen=True, kw_only=True)
class TMCConfig(MethodConfig, name="tmc"):
    """Trusted multi-view classification: Dempster's rule on subjective opinions."""

    source = "Han et al., Trusted Multi-View Classification, ICLR 2021"
    rules = MappingProxyType({"annealing": COUNT})
    search = MappingProxyType({"annealing": Range(5, 100, log=True)})

    annealing: int = 50
    """Epochs over which the divergence from ignorance is brought in."""

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        return Evidential(dempster, annealing=self.annealing)


@dataclass(frozen=True, kw_only=True)
class ECMLConfig(MethodConfig, name="ecml"):
    """Evidential conflictive multi-view learning: the mean of the evidence, and a loss on conflict."""

    source = "Xu et al., Reliable Conflictive Multi-View Learning, AAAI 2024"
    rules = MappingProxyType({"annealing": COUNT, "conflict": NOT_NEGATIVE})
    search = MappingProxyType({"annealing": Range(5, 100, log=True), "conflict": Range(0.1, 4.0, log=True)})

    annealing: int = 50
    """Epochs over which the divergence from ignorance is brought in."""
    conflict: float = 1.0
    """Weight of the conflict between opinions that are both certain."""

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        return Evidential(mean_evidence, annealing=self.annealing, conflict=self.conflict)


class Evidential(Method):
    """Heads give evidence e = softplus(z), of a Dirichlet distribution with α = e + 1; a fusion of the model is unused.

    Parameters
    ----------
    fuse
        From the α of each modality to that of the decision.
    annealing
        Epochs until the divergence counts in full.
    conflict
        Weight of the conflict.
    """

    epoch: Tensor

    def __init__(self, fuse: Callable[[Sequence[Tensor]], Tensor], *, annealing: int, conflict: float = 0.0) -> None:
        super().__init__()
        self._fuse, self._annealing, self._conflict = fuse, annealing, conflict
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def on_epoch_start(self, epoch: int, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Note the epoch, by which the divergence is brought in."""
        self.epoch.fill_(epoch)

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return ``evidence_<head>``, and ``conflict`` where it counts."""
        found = self._dirichlet(model, features)
        share = (self.epoch / self._annealing).clamp(max=1)
        terms = {f"evidence_{head}": evidential_loss(a, labels, share) for head, a in found.items()}
        if self._conflict:
            terms["conflict"] = self._conflict * conflict([found[m] for m in features])
        return StepLosses(terms, _logits(found))

    def predict(self, model: MultimodalClassifier, features: Heads, qhat: Heads | None) -> Heads:
        """Return log(α / S), whose softmax is the expected probability of each class."""
        return _logits(self._dirichlet(model, features))

    def _dirichlet(self, model: MultimodalClassifier, features: Heads) -> Heads:
        found = {m: softplus(model.heads[m](h).float()) + 1 for m, h in features.items()}
        return found | {FUSED: self._fuse(list(found.values()))}


def dempster(alphas: Sequence[Tensor]) -> Tensor:
    """Return the α (B, C) of opinions combined by Dempster's rule, one after another.

    b = (b₁b₂ + b₁u₂ + b₂u₁) / (1 − K), u = u₁u₂ / (1 − K), K = Σ_{i≠j} b₁ᵢb₂ⱼ.
    """
    return reduce(_combined, alphas)


def _combined(one: Tensor, other: Tensor) -> Tensor:
    classes = one.shape[-1]
    s1, s2 = one.sum(-1, keepdim=True), other.sum(-1, keepdim=True)
    b1, b2, u1, u2 = (one - 1) / s1, (other - 1) / s2, classes / s1, classes / s2
    # The strength is S = C / u, and the evidence b S, so that 1 − K is not needed: it divides both b and u.
    return classes * (b1 * b2 + b1 * u2 + b2 * u1) / (u1 * u2) + 1


def mean_evidence(alphas: Sequence[Tensor]) -> Tensor:
    """Return the α (B, C) of the mean evidence."""
    return torch.stack(list(alphas)).mean(0)


def evidential_loss(alpha: Tensor, labels: Tensor, share: Tensor) -> Tensor:
    """Return Σ_y y(ψ(S) − ψ(α_y)) + share · KL(Dir(α̃) ‖ Dir(1)), the mean over samples.

    α̃ is α without the evidence of the true class.

    Parameters
    ----------
    alpha
        (B, C), above 1.
    labels
        (B,).
    share
        0-d in [0, 1].
    """
    true = one_hot(labels, alpha.shape[-1]).to(alpha.dtype)
    fit = (true * (alpha.sum(-1, keepdim=True).digamma() - alpha.digamma())).sum(-1)
    return (fit + share * divergence_from_ignorance(true + (1 - true) * alpha)).mean()


def divergence_from_ignorance(alpha: Tensor) -> Tensor:
    """Return KL(Dir(α) ‖ Dir(1)) of (B, C), (B,)."""
    strength = alpha.sum(-1, keepdim=True)
    constant = strength[..., 0].lgamma() - alpha.lgamma().sum(-1) - math.lgamma(alpha.shape[-1])
    return constant + ((alpha - 1) * (alpha.digamma() - strength.digamma())).sum(-1)


def conflict(alphas: Sequence[Tensor]) -> Tensor:
    """Return the mean over samples of Σ_{i≠j} ½ Σ_k |p_ik − p_jk| (1 − u_i)(1 − u_j) / (M − 1)."""
    strengths = [a.sum(-1) for a in alphas]
    classes = alphas[0].shape[-1]
    found = alphas[0].new_zeros(len(alphas[0]))
    for i, j in combinations(range(len(alphas)), 2):
        apart = (alphas[i] / strengths[i][:, None] - alphas[j] / strengths[j][:, None]).abs().sum(-1) / 2
        sure = (1 - classes / strengths[i]) * (1 - classes / strengths[j])
        found = found + 2 * apart * sure / (len(alphas) - 1)
    return found.mean()


def _logits(alphas: Heads) -> Heads:
    return {head: (a / a.sum(-1, keepdim=True)).log() for head, a in alphas.items()}
