"""A small model of two modalities, a batch, and a step without an optimizer."""

from __future__ import annotations

import pytest
import torch

from cpsc_train.data import Modality
from cpsc_train.methods import StepLosses
from cpsc_train.models import COMPLETE, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig

MODALITIES = ("a", "b")
ROWS, CLASSES, DIM = 12, 3, 4


@pytest.fixture
def model():
    torch.manual_seed(0)
    vector = Modality(kind="vector", shape=(5,))
    return MultimodalClassifier(
        dict.fromkeys(MODALITIES, vector), dict.fromkeys(MODALITIES, MLPConfig(hidden=6)), dim=DIM, classes=CLASSES
    )


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(ROWS, 5, generator=generator) for m in MODALITIES}
    return inputs, torch.arange(ROWS) % CLASSES


def _step(method, model, batch, rows=None, present=COMPLETE, qhat=None):
    """One step without an optimizer; gradients are those that it would be given in the last turn."""
    inputs, labels = batch
    whole = StepLosses({}, {})
    for turn in range(method.steps_per_batch):
        asked = method.on_step_start(turn)
        model.zero_grad()
        method.zero_grad()
        rows = torch.arange(ROWS) if rows is None else rows
        method.on_batch_start(rows)
        features = model.encode({m: inputs[m] for m in asked or inputs}, present)
        out = method.losses(model, features, labels, qhat, present)
        method.backward(model, out.terms, lambda loss: loss.backward())
        method.on_before_optimizer_step(model, _alone)
        if (notes := method.notes()) is not None:
            method.remember(rows, notes)
        whole |= out
    return whole


def _alone(tensor):
    """The sum over one process."""
    return tensor


def _gradients(module):
    return torch.cat([p.grad.flatten() for p in module.parameters()])


@pytest.fixture
def step():
    return _step


@pytest.fixture
def alone():
    return _alone


@pytest.fixture
def gradients():
    return _gradients
