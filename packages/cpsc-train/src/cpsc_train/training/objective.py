"""Model and method as one module, from a batch to loss terms, and from encoded rows to predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsc_rsc import Taps
from cpsc_train.data import Batch
from cpsc_train.evaluation import Predictions, Share, Softmax
from cpsc_train.evaluation.share import ALL
from cpsc_train.inference import Inference, Trained
from cpsc_train.methods import Method, PartFeatures
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.multimodal import NO_TAPS
from cpsc_train.training.compute import ComputeConfig
from cpsc_train.training.config import RunConfig

TOGETHER = 16
"""Batches whose logits are on the device at once."""
Logits = dict[str, NDArray[np.float32]]
Weights = dict[str, NDArray[np.float64]]
Scalar = TypeVar("Scalar", bound=np.generic)


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


@dataclass(frozen=True)
class Predictor:
    """A trained model with its configuration."""

    config: RunConfig
    """Configuration of the run."""
    objective: Objective
    """Model and method."""
    qhat: dict[str, Tensor] | None
    """Quantiles of the in-loop conformal predictor by head, if there is one."""
    modalities: tuple[str, ...]
    """Their names, in order."""

    def trained(self) -> Trained:
        """Return the model as inference variants use it."""
        config, objective = self.config, self.objective
        return Trained(objective.model, objective.method, self.qhat, batch_size=config.batch_size, seed=config.seed)

    def predict(self, rows: PartFeatures, inference: Inference | None = None, share: Share = ALL) -> Predictions:
        """Return the predictions for encoded rows: those of the model itself, or of an inference variant.

        Modalities that `rows` lacks are left out. `rows` are those of a `share`. The logits of the model itself leave
        the device after `TOGETHER` batches; a variant predicts all rows at once.
        """
        step = TOGETHER * self.config.batch_size if inference is None else len(rows.labels)
        slices = [slice(start, start + step) for start in range(0, len(rows.labels), step)]
        parts = [self._predict(rows.mapped(itemgetter(some)), inference) for some in slices]
        return Predictions(
            rows.labels,
            {head: Softmax(z) for head, z in _joined([z for z, _, _ in parts]).items()},
            _joined([weights for _, weights, _ in parts]),
            _joined([typicality for _, _, typicality in parts]),
            rows.features,
            self._counted(rows),
            rows.depths,
            tuple(m for m in self.modalities if m not in rows.features),
            share,
        )

    def _predict(self, rows: PartFeatures, inference: Inference | None) -> tuple[Logits, Weights, Weights]:
        """Return logits by head, and weights and typicality by modality."""
        device = self.objective.device
        features = {m: torch.from_numpy(h).to(device) for m, h in rows.features.items()}
        present = {m: torch.from_numpy(mask).to(device) for m, mask in rows.present.items() if m in features}
        depths = {m: tuple(torch.from_numpy(h).to(device) for h in values) for m, values in rows.depths.items()}
        weights: dict[str, Tensor] = {}
        typicality: dict[str, Tensor] = {}
        with evaluating(self.objective), self.config.compute.autocast(device):
            if inference is None:
                logits = self.trained().logits(features, present)
            else:
                logits, weights = inference.predict(features, present, depths)
                typicality = inference.typicality(depths) or weights
        return {head: as_array(z) for head, z in logits.items()}, _double(weights), _double(typicality)

    def _counted(self, rows: PartFeatures) -> dict[str, NDArray[np.bool_]]:
        """Return which rows the figures of a head are over; of the fused one, those with a modality left."""
        left, present = list(rows.features), dict(rows.present)
        if len(left) < len(self.modalities) and all(m in present for m in left):
            present[FUSED] = np.any([present[m] for m in left], axis=0)
        return present


def _joined(parts: list[dict[str, NDArray[Scalar]]]) -> dict[str, NDArray[Scalar]]:
    """Return the rows of all parts by name; the parts are emptied, so that memory holds a copy of one name at most."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in tuple(parts[0])}


def _double(values: dict[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    return {m: value.double().cpu().numpy() for m, value in values.items()}


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """Return a tensor as an array in single precision."""
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
