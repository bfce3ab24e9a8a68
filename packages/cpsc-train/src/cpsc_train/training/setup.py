"""The parts of a run, built from its configuration; all errors that need no training are raised here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Sampler

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
from cpsc_train.data.dataset import unfiltered
from cpsc_train.data.families.stored import Stored
from cpsc_train.data.missing import check_presence, numbers
from cpsc_train.data.order import Draw
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import UserError
from cpsc_train.methods import Method
from cpsc_train.models import MultimodalClassifier
from cpsc_train.training.config import RunConfig
from cpsc_train.training.distributed import Process, current
from cpsc_train.training.objective import Objective


@dataclass
class Setup:
    """Data, model and method of a run, and the process they are in."""

    config: RunConfig
    process: Process
    device: torch.device
    dataset: Dataset
    intact: NDArray[np.int64]
    """Labels (N,) before label corruption."""
    splits: Splits
    preprocessing: Preprocessing
    objective: Objective
    conditions: tuple[Condition, ...]
    """Conditions of evaluation, besides clean rows."""

    @classmethod
    def build(cls, config: RunConfig, read_splits: Callable[[Dataset], Splits] | None = None) -> Setup:
        """Open the data, split it, and build the model from the seed.

        `read_splits` returns the splits of an earlier run; if None, new ones are drawn. Raises UserError for bad data,
        a device that cannot be used, or too few calibration samples for alpha.
        """
        process = current()
        device = config.compute.open_device()
        if config.batch_size < process.world:
            raise UserError(
                f"batch_size must be at least the number of processes, {process.world}, got {config.batch_size}"
            )
        dataset = config.data.open()
        for noise in (*config.noise, *config.corruption.noise, *config.augment):
            noise.check_on(dataset)
        evaluated = [Condition(noise.name, (noise,)) for noise in config.noise]
        evaluated += [one for text in config.protocols for one in conditions(text, dataset.modalities, dataset=dataset)]
        splits = Splits.of(dataset, config.splits) if read_splits is None else read_splits(dataset)
        intact, dataset = dataset.labels, config.corruption.relabelled(dataset, splits)
        dataset = config.missing.taken_from(dataset, splits)
        check_presence(dataset, splits)
        _check_calibration(config, len(splits.calibration), numbers(dataset, splits)["calibration"])
        torch.manual_seed(config.seed)
        model = MultimodalClassifier(
            dataset.modalities,
            config.encoders,
            fusion=config.fusion,
            dim=config.feature_dim,
            classes=len(dataset.classes),
        )
        method = _method(config, model, tuple(dataset.modalities), dataset.ids_of(splits.train))
        preprocessing = Preprocessing(dataset, splits.train)
        model.standardise(preprocessing.scales)
        objective = Objective(model.to(device), method.to(device), config.compute, device)
        if process.world > 1:
            torch.manual_seed(config.seed + process.rank)  # the same parameters, but different dropout
            if device.type == "cuda":
                objective = nn.SyncBatchNorm.convert_sync_batchnorm(objective)  # type: ignore[no-untyped-call]
        return cls(config, process, device, dataset, intact, splits, preprocessing, objective, tuple(evaluated))

    def describe(self) -> dict[str, Any]:
        """Return the first entries of ``results.json``: recipe, method, data and steps."""
        config, dataset = self.config, self.dataset
        return {
            "recipe": config.recipe,
            "mode": config.mode,
            "method": config.method.name,
            "seed": config.seed,
            "data": {
                "name": config.data.name,
                "modalities": list(dataset.modalities),
                "inputs": {name: modality.summary for name, modality in dataset.modalities.items()},
                "classes": len(dataset.classes),
                "rows": len(dataset),
                "dropped": len(dataset.dropped),
            }
            | self.splits.sizes
            | ({"present": numbers(dataset, self.splits)} if dataset.presence else {}),
            "steps": {
                "per_epoch": self.order().steps,
                "batch_size": config.batch_size,
                "accumulate": config.optimizer.accumulate,
            },
            "seen": {"training": self._seen()},
        } | self._corruption()

    def order(self) -> Shuffled:
        """Return the order of the training rows."""
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
            augment=self.config.augment,
            workers=self._workers,
            pin_memory=self.device.type == "cuda",
        )

    def batches(
        self, part: str, noise: Sequence[Noise] = (), modalities: Sequence[str] | None = None
    ) -> Iterable[Batch]:
        """Return the batches of this process's share of a part, in order, with all modalities or some of them."""
        rows = self._own(part)
        return self.loader(part, InOrder(len(rows), self.own_batch), noise, modalities)

    def loader(
        self, part: str, order: Sampler[Draw], noise: Sequence[Noise] = (), modalities: Sequence[str] | None = None
    ) -> Iterable[Batch]:
        """Return the batches of this process's share of a part in an order, without augmentation."""
        return Loader(
            self.dataset,
            self._own(part),
            self.preprocessing,
            order,
            noise=(*self.config.corruption.noise_of(part), *noise),
            workers=self._workers,
            pin_memory=self.device.type == "cuda",
            modalities=modalities,
        )

    def sample_bytes(self, part: str) -> int:
        """Return the size of the inputs of one sample of a part, in bytes."""
        (sample,) = Loader(self.dataset, self._own(part)[:1], self.preprocessing, InOrder(1, 1))
        return sum(x.nbytes for x in sample.inputs.values())

    def present(self, part: str) -> dict[str, NDArray[np.bool_]]:
        """Return which rows of a part have a modality, {m: (n,)}, for those that some samples lack."""
        rows = getattr(self.splits, part)
        return {m: mask[rows] for m, mask in self.dataset.presence.items()}

    def ids_having(self, part: str, modality: str) -> StringArray:
        """Return the ids of the rows of a part that have a modality."""
        mask = self.dataset.presence.get(modality)
        rows = getattr(self.splits, part)
        return self.dataset.ids_of(rows if mask is None else rows[mask[rows]])

    def _own(self, part: str) -> NDArray[np.int64]:
        """Return this process's share of the rows of a part; a process without rows takes one that all ignore."""
        rows = getattr(self.splits, part)
        return self.process.share(rows) if len(rows) > self.process.rank else rows[:1]

    @property
    def own_batch(self) -> int:
        """Largest number of rows of a batch that one process has; memory must not grow with the number of processes."""
        return -(-self.config.batch_size // self.process.world)

    @property
    def _workers(self) -> int:
        return self.config.compute.worker_count(decoding=isinstance(unfiltered(self.dataset), Stored))

    def _seen(self) -> list[str]:
        noise = (*self.config.corruption.noise_of("train"), *self.config.augment)
        return list(dict.fromkeys(f"{one.modality}:{one.kind}" for one in noise))

    def _corruption(self) -> dict[str, Any]:
        """Return the number of corrupted rows by part and kind; nothing without corruption."""
        config = self.config.corruption
        counts: dict[str, dict[str, int]] = {}
        for part in config.parts:
            rows = getattr(self.splits, part)
            counts[part] = {
                noise.name: int(noise.hits(self.ids_having(part, noise.modality)).sum()) for noise in config.noise
            }
            if config.label_share:
                counts[part]["labels"] = int((self.dataset.labels[rows] != self.intact[rows]).sum())
        return {"corruption": counts} if any(counts.values()) else {}


def _method(config: RunConfig, model: MultimodalClassifier, modalities: tuple[str, ...], ids: Sequence[str]) -> Method:
    method = config.method.build(model, modalities)
    method.row_ids = ids
    method.on_fit_start(len(ids))
    if config.epochs <= method.warmup:
        raise UserError(
            f"epochs must be larger than the {method.warmup} warm-up epochs of {config.method.name}, "
            f"got {config.epochs}: raise --epochs or lower method.warmup"
        )
    return method


def _check_calibration(config: RunConfig, size: int, having: Mapping[str, int]) -> None:
    """Refuse an alpha too small for `size` calibration scores, or for those `having` a modality."""
    alpha = config.conformal.alpha
    if config.conformal.quantile != "exact":
        return
    for which, number in {"": size, **{f" with {modality}": number for modality, number in having.items()}}.items():
        if quantile_rank(number, alpha=alpha) is None:
            raise UserError(
                f"{number} calibration samples{which} are too few for conformal.alpha = {alpha}: the smallest usable "
                f"alpha is {1 / (number + 1):.4g}; raise splits.calibration or conformal.alpha"
            )
