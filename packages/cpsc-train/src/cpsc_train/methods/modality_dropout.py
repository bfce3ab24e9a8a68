"""Modality dropout: joint and unimodal training in which samples randomly lack modalities.

Source: Neverova et al., *ModDrop: Adaptive Multi-Modal Gesture Recognition*, IEEE TPAMI 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from cpsc_train.methods.base import Heads, Method, Quantiles, StepLosses, head_cross_entropy
from cpsc_train.methods.options import DECAY, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, only_present


class ModalityDropout(Method):
    """Cross-entropies of the fused logits and of each modality, with modalities dropped at random.

    The feature of a modality is zeroed for a sample with probability p, but never all features of a sample. A dropped
    modality is treated as one that the sample lacks, in the fusion and in the modality's own loss.
    """

    config: ModalityDropoutConfig
    static_graph = True

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused`` and ``ce_<modality>``."""
        kept = drawn(features, present, self.config.probability)
        shown = {m: only_present(h, kept[m]) for m, h in features.items()}
        logits = model.unimodal(features, present) | {FUSED: model.classify(shown, kept)[FUSED]}
        terms = {"ce_fused": cross_entropy(logits[FUSED], labels)}
        terms |= {f"ce_{m}": head_cross_entropy(logits[m], labels, kept[m]) for m in features}
        return StepLosses(terms, logits)


@dataclass(frozen=True, kw_only=True)
class ModalityDropoutConfig(MethodConfig, name="modality-dropout"):
    """Joint and unimodal cross-entropy, with modalities of a sample dropped at random."""

    source = "Neverova et al., ModDrop: Adaptive Multi-Modal Gesture Recognition, IEEE TPAMI 2016"
    method = ModalityDropout
    rules = {"probability": DECAY}
    search = {"probability": Range(0.05, 0.6)}

    probability: float = 0.2
    """Probability that a modality of a sample is dropped."""


def drawn(features: Heads, present: Present, probability: float) -> Heads:
    """Return which samples keep each modality of `features` {m: (B, d)}, {m: (B,) bool}.

    Each modality that a sample has is dropped with `probability`. If all would be dropped, one is kept, chosen with
    equal probabilities.
    """
    first = next(iter(features.values()))
    here = torch.ones(len(first), dtype=torch.bool, device=first.device)
    has = torch.stack([present.get(m, here) for m in features])
    draws = torch.rand(has.shape, device=first.device)
    # Where all draws are below the probability, their order is random; elsewhere the largest is kept anyway.
    largest = one_hot(draws.masked_fill(~has, -1.0).argmax(0), len(has)).T > 0
    return dict(zip(features, has & ((draws >= probability) | largest), strict=True))
