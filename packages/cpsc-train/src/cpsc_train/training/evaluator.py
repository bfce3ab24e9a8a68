"""Predictions of a model for a part of the data, computed by all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpsc_train.data import Noise
from cpsc_train.evaluation import Predictions
from cpsc_train.inference import Inference, Trained
from cpsc_train.methods import PartFeatures
from cpsc_train.models import FUSED
from cpsc_train.training.objective import Objective, evaluating
from cpsc_train.training.refresh import label_scores
from cpsc_train.training.setup import Setup

Parts = dict[str, list[Tensor]]
"""Tensors of the batches, by modality or head."""


class Evaluator:
    """Predictor for parts of the data, from an objective and the quantiles of its heads, if any."""

    def __init__(self, setup: Setup, objective: Objective, qhat: dict[str, Tensor] | None) -> None:
        self.objective = objective
        self.qhat = qhat
        self._setup = setup

    def collect(self, part: str, noise: Sequence[Noise] = (), without: Sequence[str] = ()) -> Predictions:
        """Return the predictions for all rows of a part, with `noise`, or `without` some modalities.

        The result is the same on every process.
        """
        features: Parts = {}
        weights: Parts = {}
        logits: Parts = {}
        for batch in self._setup.batches(part, noise):
            inputs = {m: x for m, x in batch.inputs.items() if m not in without}
            outputs = self.objective.predict(replace(batch, inputs=inputs).to(self._setup.device), self.qhat)
            for collected, values in zip((features, weights, logits), outputs, strict=True):
                for name, value in values.items():
                    collected.setdefault(name, []).append(value)
        return Predictions(
            self._setup.dataset.labels[getattr(self._setup.splits, part)],
            {head: z.double().softmax(-1).cpu().numpy() for head, z in self._gather(logits, part).items()},
            {m: w.double().cpu().numpy() for m, w in self._gather(weights, part).items()},
            {m: h.float().cpu().numpy() for m, h in self._gather(features, part).items()},
            self._present(part, without),
        )

    def trained(self) -> Trained:
        """Return the model as inference variants use it."""
        config = self._setup.config
        objective = self.objective
        return Trained(objective.model, objective.method, self.qhat, batch_size=config.batch_size, seed=config.seed)

    def vary(self, inference: Inference, plain: Predictions) -> Predictions:
        """Return the predictions of an inference variant for the rows of `plain`, from the features in it."""
        device, compute = self._setup.device, self._setup.config.compute
        features = {m: torch.from_numpy(h).to(device) for m, h in plain.features.items()}
        present = {m: torch.from_numpy(mask).to(device) for m, mask in plain.present.items() if m in features}
        with evaluating(self.objective), compute.autocast(device):
            logits, weights = inference.predict(features, present)
        return replace(
            plain,
            probabilities={head: z.double().softmax(-1).cpu().numpy() for head, z in logits.items()},
            weights={m: w.double().cpu().numpy() for m, w in weights.items()},
        )

    def part_features(self, part: str) -> PartFeatures:
        """Return features and labels of a part."""
        predictions = self.collect(part)
        return PartFeatures(predictions.features, predictions.labels, predictions.present)

    def in_loop_coverage(self, part: str, qhat: dict[str, Tensor]) -> dict[str, float]:
        """Return the fraction of the scores of a part that are at most the quantile of their head."""
        scores: Parts = {}
        for batch in self._setup.batches(part):
            here = batch.to(self._setup.device)
            for head, logits in self.objective.calibration_logits(here, qhat).items():
                scores.setdefault(head, []).append(label_scores(logits, here.labels))
        covered = {head: (s <= qhat[head]).cpu() for head, s in self._gather(scores, part).items()}
        present = self._setup.present(part)
        return {
            head: float((hits[torch.from_numpy(present[head])] if head in present else hits).double().mean())
            for head, hits in covered.items()
        }

    def _present(self, part: str, without: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        """Return which rows the figures of a head are over; of the fused one, those with a modality left."""
        present = self._setup.present(part)
        left = [m for m in self._setup.dataset.modalities if m not in without]
        if without and all(m in present for m in left):
            present[FUSED] = np.any([present[m] for m in left], axis=0)
        return present

    def _gather(self, collected: Parts, part: str) -> dict[str, Tensor]:
        """Return the rows of all processes in order."""
        rows = len(getattr(self._setup.splits, part))
        return {name: self._setup.process.gather(torch.cat(parts), rows) for name, parts in collected.items()}
