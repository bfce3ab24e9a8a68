"""Predictions of a trained model, or of an inference variant, for encoded rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpsc_train.evaluation import Predictions
from cpsc_train.inference import Inference, Trained
from cpsc_train.methods import PartFeatures
from cpsc_train.models import FUSED
from cpsc_train.training.config import RunConfig
from cpsc_train.training.objective import Objective, evaluating


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

    def predict(self, rows: PartFeatures, inference: Inference | None = None) -> Predictions:
        """Return the predictions for encoded rows: those of the model itself, or of an inference variant.

        Modalities that `rows` lacks are left out.
        """
        device = self.objective.device
        features = {m: torch.from_numpy(h).to(device) for m, h in rows.features.items()}
        present = {m: torch.from_numpy(mask).to(device) for m, mask in rows.present.items() if m in features}
        depths = {m: tuple(torch.from_numpy(h).to(device) for h in values) for m, values in rows.depths.items()}
        with evaluating(self.objective), self.config.compute.autocast(device):
            weights: dict[str, Tensor] = {}
            typicality: dict[str, Tensor] = {}
            if inference is None:
                logits = self.trained().logits(features, present)
            else:
                logits, weights = inference.predict(features, present, depths)
                typicality = inference.typicality(depths) or weights
        return Predictions(
            rows.labels,
            {head: z.double().softmax(-1).cpu().numpy() for head, z in logits.items()},
            _double(weights),
            _double(typicality),
            rows.features,
            self._counted(rows),
            rows.depths,
            tuple(m for m in self.modalities if m not in rows.features),
        )

    def _counted(self, rows: PartFeatures) -> dict[str, NDArray[np.bool_]]:
        """Return which rows the figures of a head are over; of the fused one, those with a modality left."""
        left, present = list(rows.features), dict(rows.present)
        if len(left) < len(self.modalities) and all(m in present for m in left):
            present[FUSED] = np.any([present[m] for m in left], axis=0)
        return present


def _double(values: dict[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    return {m: value.double().cpu().numpy() for m, value in values.items()}


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """Return a tensor as an array in single precision."""
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
