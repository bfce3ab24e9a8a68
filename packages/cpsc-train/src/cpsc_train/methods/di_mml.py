"""DI-MML: detached training of modalities with a shared head, and one-way contrast along each one's own dimensions.

Source: Fan et al., *Detached and Interactive Multimodal Learning*, ACM Multimedia 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsc_train.methods.base import Heads, Method, PartFeatures, Quantiles, StepLosses, head_cross_entropy
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, POSITIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, softmax_present, stacked


class DIMML(Method):
    """Cross-entropies of each modality's head and of a shared one, and the contrast from epoch ``start`` on.

    Modality m learns from another along the dimensions that are effective for the other only: a feature of m is pulled
    towards the other's feature of the same sample, and away from those of other samples of the batch; the other's have
    no gradient. A linear layer on the concatenated features, detached from the encoders, votes too.
    """

    config: DIMMLConfig
    effective: Tensor
    known: Tensor

    def __init__(self, config: DIMMLConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self.shared = nn.Linear(model.dim, model.classes)
        self.joined = nn.Linear(model.dim * len(modalities), model.classes)
        self.register_buffer("effective", torch.zeros(len(modalities), model.dim, dtype=torch.bool))
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))

    def features_needed(self, epoch: int) -> tuple[str, ...]:
        """Return the training part before the first epoch of contrast."""
        return ("train",) if epoch == self.config.start else ()

    def on_features(self, model: MultimodalClassifier, parts: dict[str, PartFeatures]) -> None:
        """Find the effective dimensions of each modality."""
        train = parts["train"]
        effective = np.stack([effective_dimensions(*train.of(m)) for m in self.modalities])
        self.effective.copy_(torch.from_numpy(effective))
        self.known.fill_(True)

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_<head>``, ``shared_<modality>`` and ``contrast``."""
        logits = self._voters(model, features, present)
        terms = {f"ce_{head}": head_cross_entropy(z, labels, present.get(head)) for head, z in logits.items()}
        for m, h in features.items():
            terms[f"shared_{m}"] = self.config.shared * head_cross_entropy(self.shared(h), labels, present.get(m))
        terms["contrast"] = torch.where(self.known, self._contrast(features, present), 0.0)
        with torch.no_grad():
            decision = by_certainty(logits, self.config.certainty, stacked(logits, present, labels))
        return StepLosses(terms, {m: logits[m] for m in features} | {FUSED: decision})

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return logits of each modality, and the sum of all voters weighted by certainty."""
        logits = self._voters(model, features, present)
        mask = stacked(logits, present, next(iter(logits.values())))
        return {m: logits[m] for m in features} | {FUSED: by_certainty(logits, self.config.certainty, mask)}

    def _voters(self, model: MultimodalClassifier, features: Heads, present: Present) -> Heads:
        """Return logits by modality, and of ``joined`` if every modality has samples."""
        logits = model.unimodal(features, present)
        if len(features) == len(self.modalities):
            logits["joined"] = self.joined(torch.cat([features[m].detach() for m in self.modalities], -1))
        return logits

    def _contrast(self, features: Heads, present: Present) -> Tensor:
        """Return the contrast of all pairs of modalities, each among the samples that have both."""
        terms = []
        for (i, student), (j, teacher) in permutations(enumerate(self.modalities), 2):
            only = (self.effective[j] & ~self.effective[i]).to(features[teacher].dtype)
            alike = (features[student] * only) @ features[teacher].detach().T / self.config.temperature
            alike, both = alike.float(), stacked((student, teacher), present, alike)
            if both is not None:
                alike = alike.masked_fill(~both.all(0), torch.finfo(alike.dtype).min)
            rows = torch.arange(len(alike), device=alike.device)
            terms.append(head_cross_entropy(alike, rows, None if both is None else both.all(0)))
        return torch.stack(terms).sum()


@dataclass(frozen=True, kw_only=True)
class DIMMLConfig(MethodConfig, name="di-mml"):
    """Detached unimodal training, one-way contrast along dimensions, and logits weighted by certainty."""

    source = "Fan et al., Detached and Interactive Multimodal Learning, ACM Multimedia 2024"
    method = DIMML
    rules = {"start": COUNT, "shared": NOT_NEGATIVE, "temperature": POSITIVE, "certainty": POSITIVE}
    shares = {"start": 20 / 150}
    search = {
        "shared": Range(0.1, 3.0, log=True),
        "temperature": Range(0.1, 4.0, log=True),
        "certainty": Range(0.05, 4.0, log=True),
    }

    start: int = 20
    """First epoch of the contrast; the effective dimensions are found just before it."""
    shared: float = 1.0
    """Weight of the cross-entropies of the shared head."""
    temperature: float = 1.0
    """Temperature of the contrast."""
    certainty: float = 1.0
    """Temperature of the fusion weights; a smaller one favours the most certain head."""


def effective_dimensions(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (d,): whether a dimension puts more samples nearest to the mean of their class than the average dimension.

    `features` is (N, d), `labels` (N,). Cost: O(N d C) time, O(N d) memory.

    Examples
    --------
    >>> separates, noise = np.array([0.0, 0.1, 1.0, 1.1]), np.array([0.0, 1.0, 0.0, 1.1])
    >>> effective_dimensions(np.stack([separates, noise], 1), np.array([0, 0, 1, 1])).tolist()
    [True, False]
    """
    nearest = np.full(features.shape, np.inf, dtype=features.dtype)
    right = np.zeros(features.shape, dtype=bool)
    for label in np.unique(labels):
        rows = labels == label
        distance = np.abs(features - features[rows].mean(0))
        closer = distance < nearest
        nearest = np.where(closer, distance, nearest)
        right = np.where(closer, rows[:, None], right)
    hits = right.mean(0)
    effective: NDArray[np.bool_] = hits > hits.mean()
    return effective


def by_certainty(logits: Heads, temperature: float, mask: Tensor | None = None) -> Tensor:
    """Return the sum of logits {voter: (B, C)}, weighted by a softmax over voters of their largest probability.

    By `mask` (voters, B), a modality that a sample lacks does not vote.
    """
    votes = torch.stack(list(logits.values()))
    certainty = votes.float().softmax(-1).max(-1).values
    return (softmax_present(certainty / temperature, mask)[..., None] * votes).sum(0)
