"""Predictions of a model for a part of the data: each process has those of its share of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpsc_rsc import Taps
from cpsc_train.data import Dataset, Noise
from cpsc_train.evaluation import Predictions
from cpsc_train.inference import Inference, Trained
from cpsc_train.methods import PartFeatures
from cpsc_train.models.multimodal import NO_TAPS
from cpsc_train.training.division import Division
from cpsc_train.training.objective import Objective, Predictor, as_array
from cpsc_train.training.refresh import label_scores
from cpsc_train.training.setup import Setup

Parts = dict[str, list[Tensor]]
"""Tensors of the batches, by modality or head."""


UNKEPT = "test"
"""Part whose noisy features are not kept: each condition uses them once."""


class Evaluator:
    """Predictor for parts of the data, from an objective and the quantiles of its heads, if any.

    Modalities are encoded separately, so noise on some of them, and leaving some out, leaves the features of the others
    as they are, which are kept: only noisy modalities are encoded again.
    """

    def __init__(
        self,
        setup: Setup,
        objective: Objective,
        qhat: dict[str, Tensor] | None,
        fitted: Mapping[str, dict[str, Any]] = MappingProxyType({}),
    ) -> None:
        self.objective = objective
        self.qhat = qhat
        self.setup = setup
        self.fitted = fitted
        """States of inference variants that were fitted to this model, by name."""
        self.taps: Mapping[str, Taps] = NO_TAPS
        """By modality, depths at which activations are taken, too; set before anything is encoded."""
        self._kept: dict[tuple[str, str, tuple[Noise, ...]], PartFeatures] = {}
        self._predictor = Predictor(setup.config, objective, qhat, tuple(setup.dataset.modalities))

    @property
    def dataset(self) -> Dataset:
        """The data set of the run."""
        return self.setup.dataset

    def part(self, name: str, noise: Sequence[Noise] = ()) -> PartFeatures:
        """Return the features of all rows of a part, and activations; clean or with noise."""
        return self.parts(name, [noise])[0]

    def parts(self, name: str, noises: Iterable[Sequence[Noise]]) -> list[PartFeatures]:
        """Return the features of all rows of a part under each noise; arrays that are the same are one object."""
        every = [self._rows(name, tuple(noise), tuple(self.dataset.modalities)) for noise in noises]
        share, gathered = self._share(name), dict[int, NDArray[Any]]()

        def of_all(mine: NDArray[Any]) -> NDArray[Any]:
            if id(mine) not in gathered:
                gathered[id(mine)] = share.gather(mine)
            return gathered[id(mine)]

        return [rows.mapped(of_all) for rows in every]

    def collect(self, part: str, noise: Sequence[Noise] = (), without: Sequence[str] = ()) -> Predictions:
        """Return the predictions for this process's rows of a part, with `noise`, and `without` some modalities."""
        kept = tuple(m for m in self.dataset.modalities if m not in without)
        return self._predictor.predict(self._rows(part, tuple(noise), kept), share=self._share(part))

    def vary(self, inference: Inference, plain: Predictions) -> Predictions:
        """Return the predictions of an inference variant for the rows of `plain`, from the features in it.

        Those of a variant that depend on other rows are for all rows of the part, in every process.
        """
        present = {m: mask for m, mask in plain.present.items() if m in self.dataset.modalities}
        rows, share = PartFeatures(plain.features, plain.labels, present, plain.depths), plain.share
        if inference.by_row or share.world == 1:
            return self._predictor.predict(rows, inference, share)
        return self._predictor.predict(rows.mapped(share.gather), inference)

    def trained(self) -> Trained:
        """Return the model as inference variants use it."""
        return self._predictor.trained()

    def in_loop_coverage(self, part: str, qhat: dict[str, Tensor]) -> dict[str, float]:
        """Return the fraction of the scores of a part that are at most the quantile of their head."""
        scores: Parts = {}
        for batch in self.setup.batches(part):
            here = batch.to(self.setup.device)
            for head, logits in self.objective.calibration_logits(here, qhat).items():
                scores.setdefault(head, []).append(label_scores(logits, here.labels))
        gather, rows, present = self.setup.process.gather, len(self._labels(part)), self.setup.present(part)
        covered = {head: (gather(torch.cat(s), rows) <= qhat[head]).cpu() for head, s in scores.items()}
        return {
            head: float((hits[torch.from_numpy(present[head])] if head in present else hits).double().mean())
            for head, hits in covered.items()
        }

    def _rows(self, part: str, noise: tuple[Noise, ...], modalities: tuple[str, ...]) -> PartFeatures:
        keys = {m: (part, m, tuple(one for one in noise if one.modality == m)) for m in modalities}
        missing = [m for m, key in keys.items() if key not in self._kept]
        encoded = {}
        if missing:
            rows = self._encoded(part, noise, missing)
            encoded = {m: _only(rows, m) for m in missing}
            self._kept |= {keys[m]: one for m, one in encoded.items() if part != UNKEPT or not keys[m][2]}
        parts = [encoded.get(m) or self._kept[key] for m, key in keys.items()]
        features = {m: h for one in parts for m, h in one.features.items()}
        depths = {m: h for one in parts for m, h in one.depths.items()}
        return replace(parts[0], features=features, depths=depths)

    def _encoded(self, part: str, noise: Sequence[Noise], modalities: Sequence[str]) -> PartFeatures:
        """Return the features of this process's rows of a part, and activations; only `modalities` are read."""
        features: Parts = {}
        depths: dict[str, list[tuple[Tensor, ...]]] = {}
        for batch in self.setup.batches(part, noise, modalities):
            encoded, activations = self.objective.encode(batch.to(self.setup.device), self.taps)
            for m, h in encoded.items():
                features.setdefault(m, []).append(h)
            for m, values in activations.items():
                depths.setdefault(m, []).append(values)
        share = self._share(part)
        return PartFeatures(
            {m: as_array(torch.cat(h)) for m, h in features.items()},
            share.of(self._labels(part)),
            {m: share.of(mask) for m, mask in self.setup.present(part).items()},
            {m: tuple(as_array(torch.cat(h)) for h in zip(*values, strict=True)) for m, values in depths.items()},
        )

    def _share(self, part: str) -> Division:
        return Division(self.setup.process, len(getattr(self.setup.splits, part)), self.setup.device)

    def _labels(self, part: str) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = self.dataset.labels[getattr(self.setup.splits, part)]
        return labels


def _only(rows: PartFeatures, modality: str) -> PartFeatures:
    depths = {modality: rows.depths[modality]} if modality in rows.depths else {}
    return replace(rows, features={modality: rows.features[modality]}, depths=depths)
