"""From a configuration to everything a run needs; every mistake that can be seen before training is seen here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from conformal_core import quantile_rank
from cpsc_train.data import (
    Batch,
    Condition,
    Dataset,
    InOrder,
    Loader,
    Noise,
    Preprocessing,
    Shuffled,
    Splits,
    conditions,
)
from cpsc_train.data.dataset import whole_of
from cpsc_train.data.families.stored import Stored
from cpsc_train.errors import UserError
from cpsc_train.models import MultimodalClassifier
from cpsc_train.training.config import RunConfig
from cpsc_train.training.distributed import Process, current
from cpsc_train.training.objective import Objective


@dataclass
class Setup:
    """The parts of a run: data, model, method, and the process they are in."""

    config: RunConfig
    process: Process
    device: torch.device
    dataset: Dataset
    intact: NDArray[np.int64]
    """The labels (N,) before any was made wrong."""
    splits: Splits
    preprocessing: Preprocessing
    objective: Objective
    conditions: tuple[Condition, ...]
    """What evaluation rows go through, beside the clean ones."""

    @classmethod
    def build(cls, config: RunConfig, divide: Callable[[Dataset], Splits] | None = None) -> Setup:
        """Open the data, divide it, and build the model from the seed.

        Parameters
        ----------
        config
            What to build.
        divide
            Gives the division of an earlier run; drawn anew if absent.

        Raises
        ------
        UserError
            For bad data, a device that is not there, or a calibration part too small for alpha.
        """
        process = current()
        device = config.compute.open_device()
        if config.batch_size < process.world:
            raise UserError(
                f"batch_size must be at least the number of processes, {process.world}, got {config.batch_size}"
            )
        dataset = config.data.open()
        for noise in (*config.noise, *config.corruption.noise):
            noise.check(dataset.modalities[noise.modality])
        named = tuple(one for text in config.protocols for one in conditions(text, dataset.modalities))
        splits = Splits.of(dataset, config.splits) if divide is None else divide(dataset)
        intact, dataset = dataset.labels, config.corruption.relabelled(dataset, splits)
        if config.conformal.quantile == "exact":
            _check_calibration(len(splits.calibration), config.conformal.alpha, "conformal.alpha")
        if config.gate.distance != "off":
            _check_calibration(len(splits.calibration), config.gate.alpha, "gate.alpha", parts=2)
        torch.manual_seed(config.seed)
        model = MultimodalClassifier(
            dataset.modalities,
            config.encoders,
            fusion=config.fusion,
            dim=config.feature_dim,
            classes=len(dataset.classes),
        )
        method = config.method.build(model, tuple(dataset.modalities), frozen_copy=config.conformal.frozen_copy)
        method.on_fit_start(len(splits.train))
        if config.epochs <= method.warmup:
            raise UserError(
                f"epochs must be larger than the {method.warmup} warm-up epochs of {config.method.name}, "
                f"got {config.epochs}: raise --epochs or lower method.warmup"
            )
        preprocessing = Preprocessing(dataset, splits.train)
        model.standardise(preprocessing.scales)
        objective = Objective(model.to(device), method.to(device), config.compute, device)
        if process.world > 1:
            torch.manual_seed(config.seed + process.rank)  # the same parameters, but each its own dropout
            if device.type == "cuda":
                objective = nn.SyncBatchNorm.convert_sync_batchnorm(objective)  # type: ignore[no-untyped-call]
        given = (*(Condition(noise.name, (noise,)) for noise in config.noise), *named)
        return cls(config, process, device, dataset, intact, splits, preprocessing, objective, given)

    def describe(self) -> dict[str, Any]:
        """Return what was built, as it stands at the head of ``results.json``."""
        return {
            "recipe": self.config.recipe,
            "mode": self.config.mode,
            "method": self.config.method.name,
            "seed": self.config.seed,
            "data": {
                "name": self.config.data.name,
                "modalities": list(self.dataset.modalities),
                "classes": len(self.dataset.classes),
                "rows": len(self.dataset),
                "dropped": len(self.dataset.dropped),
            }
            | self.splits.sizes,
            "steps": {
                "per_epoch": self.order().steps,
                "batch_size": self.config.batch_size,
                "accumulate": self.config.optimizer.accumulate,
            },
        } | self._corruption()

    def batches(self, part: str, noise: Sequence[Noise] = ()) -> Iterable[Batch]:
        """Return the batches of this process's share of a part, in order."""
        rows = getattr(self.splits, part)
        rows = self.process.share(rows) if len(rows) > self.process.rank else rows[:1]  # gathering leaves it out again
        order = InOrder(len(rows), self.config.batch_size)
        noise = (*self.config.corruption.noise_of(part), *noise)
        return Loader(self.dataset, rows, self.preprocessing, order, noise=noise, workers=self._workers)

    @property
    def _workers(self) -> int:
        return self.config.compute.readers(decoding=isinstance(whole_of(self.dataset), Stored))

    def order(self) -> Shuffled:
        """Return the order in which training rows are met."""
        return Shuffled(
            len(self.splits.train),
            batch_size=self.config.batch_size,
            accumulate=self.config.optimizer.accumulate,
            seed=self.config.seed,
            rank=self.process.rank,
            world=self.process.world,
        )

    def training_batches(self, order: Shuffled) -> Iterable[Batch]:
        """Return the augmented training batches, in `order` at each pass."""
        return Loader(
            self.dataset,
            self.splits.train,
            self.preprocessing,
            order,
            noise=self.config.corruption.noise_of("train"),
            workers=self._workers,
            pin_memory=self.device.type == "cuda",
        )

    def calibration_samples(self) -> Batch:
        """Return all calibration samples as one batch on the device."""
        rows = self.splits.calibration
        order = InOrder(len(rows), self.config.batch_size)
        noise = self.config.corruption.noise_of("calibration")
        parts = list(Loader(self.dataset, rows, self.preprocessing, order, noise=noise))
        inputs = {m: torch.cat([part.inputs[m] for part in parts]) for m in self.dataset.modalities}
        labels, places = (torch.cat([getattr(part, name) for part in parts]) for name in ("labels", "rows"))
        return Batch((), labels, inputs, places).to(self.device)

    def _corruption(self) -> dict[str, Any]:
        """Return how many rows of each part were made worse, and how; nothing where none was."""
        given = self.config.corruption
        found: dict[str, dict[str, int]] = {}
        for part in given.parts:
            rows = getattr(self.splits, part)
            ids = [self.dataset.ids[row] for row in rows]
            hit = {noise.name: int(noise.hits(ids).sum()) for noise in given.noise}
            if given.label_share:
                hit["labels"] = int((self.dataset.labels[rows] != self.intact[rows]).sum())
            found[part] = hit
        return {"corruption": found} if any(found.values()) else {}


def _check_calibration(size: int, alpha: float, name: str, *, parts: int = 1) -> None:
    """Refuse a level, or one that several scores share, that no quantile of so few scores has."""
    if quantile_rank(size, alpha / parts) is None:
        raise UserError(
            f"{size} calibration samples are too few for {name} = {alpha}: the smallest usable alpha is "
            f"{parts / (size + 1):.4g}; raise splits.calibration or {name}"
        )
