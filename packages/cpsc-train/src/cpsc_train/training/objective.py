"""What is differentiated: model and method as one module, from a batch to loss terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cpsc_train.data import Batch
from cpsc_train.methods import Method, StepLosses
from cpsc_train.models import MultimodalClassifier
from cpsc_train.training.compute import ComputeConfig


class Objective(nn.Module):
    """Model and method; one module, so that it can be compiled, averaged and shared out over processes.

    Parameters
    ----------
    model, method
        The parts.
    compute
        Precision and memory format.
    device
        Where both are.
    """

    def __init__(
        self, model: MultimodalClassifier, method: Method, compute: ComputeConfig, device: torch.device
    ) -> None:
        super().__init__()
        self.model = model
        self.method = method
        self.encoded: tuple[str, ...] | None = None
        """Modalities that the step at hand is about; ``None`` for all."""
        self._compute = compute
        self._device = device
        if compute.channels_last:
            model.to(memory_format=torch.channels_last)

    def forward(
        self, inputs: dict[str, Tensor], labels: Tensor, qhat: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Return the fields of `StepLosses`, as plain containers that wrappers of modules know."""
        if self.encoded is not None:
            inputs = {m: inputs[m] for m in self.encoded}
        with self._compute.autocast(self._device):
            features = self.model.encode(self._laid_out(inputs))
            out = self.method.losses(self.model, features, labels, qhat)
        return out.terms, out.logits, out.diagnostics, out.distributions

    def predict(
        self, batch: Batch, qhat: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Return encoded features, weights of the gate (both by modality) and logits (by head), without labels."""
        with evaluating(self), self._compute.autocast(self._device):
            features = self.model.encode(self._laid_out(batch.inputs))
            gated, weights = self.model.gated(features)
            return features, weights, self.method.predict(self.model, gated, qhat)

    def calibration_logits(self, batch: Batch, qhat: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the logits that the in-loop conformal predictor scores, by head."""
        with evaluating(self), self._compute.autocast(self._device):
            features = self.model.encode(self._laid_out(batch.inputs))
            return self.method.calibration_logits(self.model, features, batch.labels, qhat)

    def _laid_out(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self._compute.channels_last:
            return inputs
        return {m: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for m, x in inputs.items()}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without gradient and in evaluation mode: dropout off, batch-norm statistics untouched.

    What was in evaluation mode before stays in it. The modes are set directly, since `Module.train` takes half a
    millisecond for a small model, twice a step.
    """
    training = [inner for inner in module.modules() if inner.training]
    for inner in training:
        inner.__dict__["training"] = False
    try:
        with torch.no_grad():
            yield
    finally:
        for inner in training:
            inner.__dict__["training"] = True


def losses(module: Any, batch: Batch, qhat: dict[str, Tensor] | None) -> StepLosses:
    """Call an `Objective`, or what it is wrapped in."""
    return StepLosses(*module(batch.inputs, batch.labels, qhat))
