"""Model and method as one module, from a batch to loss terms or predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cpsc_rsc import Taps
from cpsc_train.data import Batch
from cpsc_train.methods import Method
from cpsc_train.models import MultimodalClassifier
from cpsc_train.models.multimodal import NO_TAPS
from cpsc_train.training.compute import ComputeConfig


class Objective(nn.Module):
    """Model and method in one module that can be compiled, averaged and distributed.

    `compute` sets precision and memory format; `device` is that of both parts.
    """

    def __init__(
        self, model: MultimodalClassifier, method: Method, compute: ComputeConfig, device: torch.device
    ) -> None:
        super().__init__()
        self.model = model
        self.method = method
        self.encoded: tuple[str, ...] | None = None
        """Modalities encoded in the current step; None for all."""
        self._compute = compute
        self.device = device
        """Device of both parts."""
        if compute.channels_last:
            model.to(memory_format=torch.channels_last)

    def forward(
        self, inputs: dict[str, Tensor], labels: Tensor, qhat: dict[str, Tensor] | None, present: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Return the fields of `StepLosses`, as containers that `DistributedDataParallel` can handle."""
        if self.encoded is not None:
            inputs = {m: inputs[m] for m in self.encoded}
        with self._compute.autocast(self.device):
            features = self.model.encode(self._in_format(inputs), present)
            out = self.method.losses(self.model, features, labels, qhat, present)
        return out.terms, out.logits, out.diagnostics, out.distributions

    def encode(
        self, batch: Batch, taps: Mapping[str, Taps] = NO_TAPS
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, ...]]]:
        """Return features (B, d) of the modalities of a batch, and activations at `taps`, in evaluation mode."""
        with evaluating(self), self._compute.autocast(self.device):
            return self.model.encode_depths(self._in_format(batch.inputs), batch.present, taps)

    def calibration_logits(self, batch: Batch, qhat: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the logits that the conformal predictor in the loop scores, by head."""
        with evaluating(self), self._compute.autocast(self.device):
            features = self.model.encode(self._in_format(batch.inputs), batch.present)
            return self.method.calibration_logits(self.model, features, batch.labels, qhat, batch.present)

    def _in_format(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self._compute.channels_last:
            return inputs
        return {m: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for m, x in inputs.items()}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Disable gradients and set evaluation mode; restore the mode of each submodule at the end.

    The modes are set directly, since `Module.train` takes 0.5 ms for a small model, twice a step.
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
