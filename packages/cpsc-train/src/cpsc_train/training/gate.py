"""The conformal gate of a run: built from its configuration, fitted once after training, saved in its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cpsc_rsc import ConformalGate
from cpsc_train.training import checkpoint
from cpsc_train.training.evaluator import Evaluator
from cpsc_train.training.setup import Setup


def build_gate(setup: Setup, state: dict[str, Any] | None) -> ConformalGate | None:
    """Return the gate of the configuration, with its saved state if there is one; None if the gate is off."""
    model = setup.objective.model
    gate = setup.config.gate.build(tuple(setup.dataset.modalities), model.dim, model.classes)
    if gate is not None and state is not None:
        gate.load_state_dict(state)
    return gate


def fit_gate(gate: ConformalGate, evaluator: Evaluator) -> None:
    """Fit a gate to the training and calibration rows, encoded by the model of `evaluator`."""
    training, calibration = (evaluator.part_features(part) for part in ("train", "calibration"))
    features, reference = (
        {m: torch.from_numpy(h) for m, h in part.features.items()} for part in (training, calibration)
    )
    gate.fit(features, torch.from_numpy(training.labels), reference)


def save_gate(path: Path, gate: ConformalGate) -> None:
    """Add the state of a fitted gate to the checkpoint at `path`, so the run folder alone predicts the same."""
    state = checkpoint.load(path, torch.device("cpu"))
    checkpoint.save(path, state | {"gate": gate.state_dict()})
