"""The conformal gate, fitted to the features of a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from cpsc_rsc import ConformalGate
from cpsc_train.config.rules import FRACTION
from cpsc_train.inference.base import NO_DEPTHS, Depths, Inference, InferenceConfig, Source, Trained
from cpsc_train.methods import PartFeatures
from cpsc_train.methods.base import Heads
from cpsc_train.models import COMPLETE, Present, only_present


class Gated(Inference):
    """Features are scaled by the weights of a `ConformalGate`, as with ``gate.distance`` of the configuration."""

    config: GateInferenceConfig

    def __init__(self, config: GateInferenceConfig, trained: Trained) -> None:
        super().__init__(config, trained)
        model = trained.model
        self._gate = ConformalGate(
            dict.fromkeys(model.heads, model.dim),
            classes=model.classes,
            alpha=config.alpha,
            distance=config.distance,
        )

    def fit(self, source: Source) -> None:
        """Fit distances to the training features and thresholds to the calibration features."""
        fit_gate(self._gate, source.part("train"), source.part("calibration"))
        self._gate.to(next(self.trained.model.heads.parameters()).device)

    def predict(self, features: Heads, present: Present = COMPLETE, depths: Depths = NO_DEPTHS) -> tuple[Heads, Heads]:
        """Return the logits of the scaled features, and the weights; 0 for rows that lack a modality."""
        weights = {m: only_present(w, present.get(m)) for m, w in self._gate.weights(features).items()}
        return self.trained.logits(self._gate.scale(features, weights), present), weights


@dataclass(frozen=True, kw_only=True)
class GateInferenceConfig(InferenceConfig, name="gate"):
    """Conformal gate: a modality with unusual features is down-weighted."""

    inference = Gated
    rules = {"alpha": FRACTION}

    distance: Literal["classes", "all"] = "classes"
    """Distance of features to the nearest class mean of the training features, or to their mean."""
    alpha: float = 0.04
    """Largest fraction of clean samples in which a modality is down-weighted."""


def fit_gate(gate: ConformalGate, training: PartFeatures, calibration: PartFeatures) -> None:
    """Fit a gate to the features of the training and calibration rows, each modality to the rows that have it."""
    state = gate.state_dict()
    for m, h in training.features.items():
        features, labels = training.of(m)
        reference, _ = calibration.of(m)
        one = ConformalGate({m: h.shape[1]}, classes=gate.classes, alpha=gate.alpha, distance=gate.distance)
        one.fit({m: torch.from_numpy(features)}, torch.from_numpy(labels), {m: torch.from_numpy(reference)})
        state |= one.state_dict()
    gate.load_state_dict(state)
