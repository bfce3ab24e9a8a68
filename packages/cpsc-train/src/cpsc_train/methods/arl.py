"""ARL: unequal weights of modalities, larger for the one with the smaller variance, hence the smaller entropy.

Source: Wei et al., *Improving Multimodal Learning via Imbalanced Learning*, ICCV 2025.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.methods.base import EpochMethod, Heads, Quantiles, StepLosses, head_cross_entropy, zeroed
from cpsc_train.methods.mla import entropy
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, stacked

LEAST = 0.6
"""Smallest fraction of entropy, times the number of modalities: .3 for two."""


class ARL(EpochMethod):
    """CE(fused) + γ Σ CE(m alone), where modality m alone is the fused decision with zeros for the other features.

    The gradient that reaches encoder m is multiplied by 1 + softmax(T d w)_m. w is inversely proportional to the
    fraction of entropy (at least .3 of two), d is the others' fraction of the size of the logits, and both are means
    over a process's part of a batch.
    """

    config: ARLConfig
    static_graph = True

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused`` and ``ce_<modality>``."""
        with torch.no_grad():
            unimodal = torch.stack([zeroed(model, features, {m}, present) for m in self.modalities])
            active = self.epoch >= self.config.start
            asymmetric = weights(unimodal, self.config.temperature, stacked(self.modalities, present, labels))
            factors = 1 + torch.where(active & self.config.weigh, asymmetric, 0.0)
            gamma = torch.where(active, self.config.unimodal, 1.0)
        scaled = {
            m: k * features[m] + (1 - k) * features[m].detach() for m, k in zip(self.modalities, factors, strict=True)
        }
        logits = model.classify(scaled, present)
        terms = {"ce_fused": cross_entropy(logits[FUSED], labels)}
        terms |= {
            f"ce_{m}": gamma * head_cross_entropy(zeroed(model, scaled, {m}, present), labels, present.get(m))
            for m in self.modalities
        }
        diagnostics = {f"factor_{m}": k for m, k in zip(self.modalities, factors, strict=True)}
        return StepLosses(terms, logits, diagnostics)


@dataclass(frozen=True, kw_only=True)
class ARLConfig(MethodConfig, name="arl"):
    """Joint and unimodal cross-entropy, with gradients of encoders scaled by asymmetric weights."""

    source = "Wei et al., Improving Multimodal Learning via Imbalanced Learning, ICCV 2025"
    method = ARL
    rules = {"temperature": NOT_NEGATIVE, "unimodal": NOT_NEGATIVE, "start": NOT_NEGATIVE}
    search = {"temperature": Range(1.0, 16.0, log=True), "unimodal": Range(0.5, 8.0, log=True)}

    temperature: float = 4.0
    """T of the softmax over modalities; the source has 8 for CREMA-D, 4 for AVE and Kinetics-Sounds."""
    unimodal: float = 4.0
    """Weight γ of the unimodal cross-entropies; the source has 4 for CREMA-D, 5 for AVE, 3 for Kinetics-Sounds."""
    start: int = 0
    """First epoch of weights and of γ; before it γ is 1."""
    weigh: bool = True
    """Whether the weights are applied; the released code computes them without using them."""


def weights(logits: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """Return the softmax (M,) over modalities of T d w, of logits (M, B, C) of each modality alone.

    Means are over the samples that have the modality by `mask` (M, B).

    Examples
    --------
    >>> sure, unsure = torch.tensor([[4.0, -4.0]]), torch.tensor([[0.5, -0.5]])
    >>> weights(torch.stack([unsure, sure]), temperature=8.0).argmax().item()  # the one drowned out
    0
    """
    if mask is None:
        sizes, entropies = logits.float().abs().mean(1), entropy(logits).mean(1)
    else:
        fraction = mask / mask.sum(1, keepdim=True).clamp(min=1)
        sizes = (fraction[..., None] * logits.float().abs()).sum(1)
        entropies = (fraction * entropy(logits)).sum(1)
    size = fractions(sizes.sum(-1))
    uncertain = fractions(entropies).clamp(min=LEAST / len(logits))
    return (temperature * (1 - size) * fractions(1 / uncertain)).softmax(0)


def fractions(values: Tensor) -> Tensor:
    """Return values (M,) over their sum; equal fractions if all are zero."""
    total = values.sum()
    return torch.where(total > 0, values / total.clamp(min=torch.finfo(values.dtype).tiny), 1 / len(values))
