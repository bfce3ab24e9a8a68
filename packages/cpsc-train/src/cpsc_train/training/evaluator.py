"""What a model says of a part of the data: predicted by all processes, put together in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conformal_core import LAC
from cpsc_train.data import Noise
from cpsc_train.evaluation import Predictions
from cpsc_train.methods import PartFeatures
from cpsc_train.training.objective import Objective
from cpsc_train.training.setup import Setup


class Evaluator:
    """Collects predictions.

    Parameters
    ----------
    setup
        Data and process.
    objective
        Model and method to ask.
    qhat
        The quantiles that belong to it; ``None`` while there are none.
    """

    def __init__(self, setup: Setup, objective: Objective, qhat: dict[str, Tensor] | None) -> None:
        self.objective = objective
        self.qhat = qhat
        self._setup = setup

    def collect(self, part: str, noise: Sequence[Noise] = (), without: Sequence[str] = ()) -> Predictions:
        """Return labels and probabilities of all rows of a part, the same on every process.

        Parameters
        ----------
        part
            ``calibration``, ``validation`` or ``test``.
        noise
            What its rows go through.
        without
            Modalities that are missing.
        """
        return self._collect(part, noise, without)[0]

    def collect_with_features(self, part: str) -> tuple[Predictions, dict[str, NDArray[np.float32]]]:
        """Return also the features (N, d) by modality."""
        return self._collect(part, (), ())

    def part_features(self, part: str) -> PartFeatures:
        """Return features and labels of a part, for a method to look at."""
        predictions, features = self._collect(part, (), ())
        return PartFeatures(features, predictions.labels)

    def in_loop_coverage(self, part: str, qhat: dict[str, Tensor]) -> dict[str, float]:
        """Return the share of scores of a part that are at most the quantile of their head."""
        setup = self._setup
        scores: dict[str, list[Tensor]] = {}
        for batch in setup.batches(part):
            here = batch.to(setup.device)
            for head, logits in self.objective.calibration_logits(here, qhat).items():
                labels = here.labels[:, None].expand(logits.shape[:2])
                scores.setdefault(head, []).append(LAC()(logits.float().softmax(-1), labels, check=False))
        total = len(getattr(setup.splits, part))
        return {
            head: float((setup.process.gather(torch.cat(found), total) <= qhat[head]).double().mean())
            for head, found in scores.items()
        }

    def _collect(
        self, part: str, noise: Sequence[Noise], without: Sequence[str]
    ) -> tuple[Predictions, dict[str, NDArray[np.float32]]]:
        setup = self._setup
        rows = getattr(setup.splits, part)
        features: dict[str, list[Tensor]] = {}
        weights: dict[str, list[Tensor]] = {}
        logits: dict[str, list[Tensor]] = {}
        for batch in setup.batches(part, noise):
            kept = batch
            if without:
                kept = replace(batch, inputs={m: x for m, x in batch.inputs.items() if m not in without})
            outputs = self.objective.predict(kept.to(setup.device), self.qhat)
            for collected, values in zip((features, weights, logits), outputs, strict=True):
                for name, value in values.items():
                    collected.setdefault(name, []).append(value)

        def gathered(collected: dict[str, list[Tensor]]) -> dict[str, Tensor]:
            return {name: setup.process.gather(torch.cat(parts), len(rows)) for name, parts in collected.items()}

        probabilities = {head: z.double().softmax(-1).cpu().numpy() for head, z in gathered(logits).items()}
        passed = {m: w.double().cpu().numpy() for m, w in gathered(weights).items()}
        encoded = {m: h.float().cpu().numpy() for m, h in gathered(features).items()}
        return Predictions(setup.dataset.labels[rows], probabilities, passed), encoded
