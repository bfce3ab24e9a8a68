"""Diagnosing & Re-learning: soft re-initialisation of encoders that generalise badly.

Source: Wei et al., *Diagnosing and Re-learning for Balanced Multimodal Learning*, ECCV 2024.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cpsc_train.methods.base import Heads, Method, PartFeatures, Quantiles, StepLosses
from cpsc_train.methods.joint import joint_losses
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, MultimodalClassifier, Present

RESTARTS = 5
"""Number of clusterings; the tightest is used."""


class Relearning(Method):
    """The gap of modality m is |purity on training rows − purity on validation rows| of clusters of its features.

    The purity of a clustering into C is the fraction of samples with the most frequent label of their cluster.
    Parameters θ of its encoder become w θ₀ + (1 − w) θ, with w = tanh(λ · gap) and θ₀ the initial ones; statistics of
    normalisation layers are kept. Cost: a forward pass of both parts and O(N d C) per iteration of a clustering.
    """

    config: RelearningConfig

    def __init__(self, config: RelearningConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self.initial = deepcopy(model.encoders).requires_grad_(False)

    def features_needed(self, epoch: int) -> tuple[str, ...]:
        """Return the training and validation parts if a diagnosis is due."""
        count, rest = divmod(epoch - 1, self.config.every)  # after epochs `every`, 2 `every`… of the source's code
        return ("train", "validation") if rest == 0 and 1 <= count <= self.config.times else ()

    def on_features(self, model: MultimodalClassifier, parts: dict[str, PartFeatures]) -> None:
        """Diagnose each modality and re-initialise its encoder."""
        for m in self.modalities:
            train, held_out = (purity(*part.of(m), model.classes) for part in parts.values())
            weight = float(np.tanh(self.config.strength * abs(train - held_out)))
            with torch.no_grad():
                pairs = zip(model.encoders[m].parameters(), self.initial[m].parameters(), strict=True)
                for parameter, start in pairs:
                    parameter.lerp_(start, weight)

    def losses(
        self,
        model: MultimodalClassifier,
        features: Heads,
        labels: torch.Tensor,
        qhat: Quantiles,
        present: Present = COMPLETE,
    ) -> StepLosses:
        """Return ``ce_fused``."""
        return joint_losses(model, features, labels, present, unimodal=False)


@dataclass(frozen=True, kw_only=True)
class RelearningConfig(MethodConfig, name="relearning"):
    """Joint cross-entropy, and soft re-initialisation of encoders by how well their features cluster."""

    source = "Wei et al., Diagnosing and Re-learning for Balanced Multimodal Learning, ECCV 2024"
    method = Relearning
    rules = {"every": COUNT, "times": COUNT, "strength": NOT_NEGATIVE}
    shares = {"every": 0.4}
    search = {"strength": Range(0.3, 10.0, log=True)}

    every: int = 20
    """Epochs between two diagnoses; the first is made after epoch `every`, counted from 0. The source has 20 of 50."""
    times: int = 3
    """Maximal number of diagnoses."""
    strength: float = 3.0
    """λ in the weight tanh(λ · gap) of the initial parameters."""


def purity(features: NDArray[np.float32], labels: NDArray[np.int64], clusters: int) -> float:
    """Return the fraction of samples with the most frequent label of their cluster, by k-means.

    Every dimension of `features` (N, d) is scaled to [−1, 1]; `labels` (N,) lie in 0…C−1. There are at most as many
    `clusters` as distinct features.

    Examples
    --------
    >>> purity(np.array([[0.0], [0.1], [5.0], [5.1]]), np.array([0, 0, 1, 0]), clusters=2)
    0.75
    """
    from scipy.cluster.vq import kmeans2  # noqa: PLC0415  # needed here only

    low, high = features.min(0), features.max(0)
    scaled = (2 * (features - low) / np.where(high > low, high - low, 1) - 1).astype(np.float64)
    clusters = min(clusters, len(np.unique(scaled, axis=0)))
    best, clustering = np.inf, np.zeros(len(scaled), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        for seed in range(RESTARTS):
            centres, places = kmeans2(scaled, clusters, minit="++", rng=seed)
            inertia = float(np.square(scaled - centres[places]).sum())
            if inertia < best:
                best, clustering = inertia, places
    counts = np.zeros((clustering.max() + 1, labels.max() + 1), dtype=np.int64)
    np.add.at(counts, (clustering, labels), 1)
    return float(counts.max(1).sum() / len(labels))
