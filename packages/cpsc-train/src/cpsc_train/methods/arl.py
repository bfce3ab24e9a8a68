"""ARL: the modality with the smaller variance, so the smaller entropy, is made to count for more, not the same.

Source: Wei et al., *Improving Multimodal Learning via Imbalanced Learning*, ICCV 2025.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.methods.base import Heads, Method, StepLosses, zeroed
from cpsc_train.methods.mla import entropy
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import FUSED, MultimodalClassifier

LEAST = 0.6
"""Smallest share of entropy, times the number of modalities: .3 for two."""


@dataclass(frozen=True, kw_only=True)
class ARLConfig(MethodConfig, name="arl"):
    """Joint and unimodal cross-entropy, and gradients of encoders scaled by asymmetric weights."""

    source = "Wei et al., Improving Multimodal Learning via Imbalanced Learning, ICCV 2025"
    rules = MappingProxyType({"temperature": NOT_NEGATIVE, "unimodal": NOT_NEGATIVE, "start": NOT_NEGATIVE})
    search = MappingProxyType({"temperature": Range(1.0, 16.0, log=True), "unimodal": Range(0.5, 8.0, log=True)})

    temperature: float = 4.0
    """T of the softmax over modalities; the source has 8 for CREMA-D, 4 for AVE and Kinetics-Sounds."""
    unimodal: float = 4.0
    """Weight γ of the unimodal cross-entropies; the source has 4 for CREMA-D, 5 for AVE, 3 for Kinetics-Sounds."""
    start: int = 0
    """First epoch of weights and of γ; before it γ is 1."""
    weigh: bool = True
    """Whether the weights are applied; the released code computes them and never uses them."""

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        return ARL(self, modalities)


class ARL(Method):
    """CE(fused) + γ Σ CE(m alone), where modality m alone is the fused decision with zeros for the other features.

    The gradient that reaches encoder m is multiplied by 1 + softmax(T d w)_m. w is in inverse proportion to the share
    of entropy (at least .3 of two), d is the share of the others in the size of the logits, and both are means over a
    process's share of a batch.

    Parameters
    ----------
    config
        Options.
    modalities
        Their names.
    """

    epoch: Tensor

    def __init__(self, config: ARLConfig, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.config = config
        self._modalities = modalities
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def on_epoch_start(self, epoch: int, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Note the epoch."""
        self.epoch.fill_(epoch)

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return ``ce_fused`` and ``ce_<modality>``."""
        with torch.no_grad():
            seen = torch.stack([zeroed(model, features, {m}) for m in self._modalities])
            active = self.epoch >= self.config.start
            factors = 1 + torch.where(active & self.config.weigh, weights(seen, self.config.temperature), 0.0)
            gamma = torch.where(active, self.config.unimodal, 1.0)
        scaled = {
            m: k * features[m] + (1 - k) * features[m].detach() for m, k in zip(self._modalities, factors, strict=True)
        }
        logits = model.classify(scaled)
        terms = {"ce_fused": cross_entropy(logits[FUSED], labels)}
        terms |= {f"ce_{m}": gamma * cross_entropy(zeroed(model, scaled, {m}), labels) for m in self._modalities}
        diagnostics = {f"factor_{m}": k for m, k in zip(self._modalities, factors, strict=True)}
        return StepLosses(terms, logits, diagnostics)


def weights(logits: Tensor, temperature: float) -> Tensor:
    """Return the softmax (M,) over modalities of T d w, of logits (M, B, C) of each modality alone.

    Examples
    --------
    >>> sure, unsure = torch.tensor([[4.0, -4.0]]), torch.tensor([[0.5, -0.5]])
    >>> weights(torch.stack([unsure, sure]), temperature=8.0).argmax().item()  # who is drowned out is helped
    0
    """
    share = shares(logits.float().abs().mean(1).sum(-1))
    uncertain = shares(entropy(logits).mean(1)).clamp(min=LEAST / len(logits))
    return (temperature * (1 - share) * shares(1 / uncertain)).softmax(0)


def shares(figures: Tensor) -> Tensor:
    """Return figures (M,) over their sum; equal ones where all are zero."""
    whole = figures.sum()
    return torch.where(whole > 0, figures / whole.clamp(min=torch.finfo(figures.dtype).tiny), 1 / len(figures))
