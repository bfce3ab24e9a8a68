"""From a configuration to everything a run needs; every mistake that can be seen before training is seen here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from conformal_core import quantile_rank
from cpsc_train.data import Batch, Dataset, Noise, Preprocessing, Splits, loader
from cpsc_train.errors import UserError
from cpsc_train.methods import Method
from cpsc_train.models import MultimodalClassifier
from cpsc_train.training.config import RunConfig


@dataclass
class Setup:
    """The parts of a run: data, model, method."""

    config: RunConfig
    device: torch.device
    dataset: Dataset
    splits: Splits
    preprocessing: Preprocessing
    model: MultimodalClassifier
    method: Method

    @classmethod
    def build(cls, config: RunConfig, splits: Splits | None = None) -> Setup:
        """Open the data, divide it, and build the model from the seed.

        Parameters
        ----------
        config
            What to build.
        splits
            The division of an earlier run; drawn anew if absent.

        Raises
        ------
        UserError
            For bad data, a device that is not there, or a calibration part too small for alpha.
        """
        device = _device(config.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        dataset = config.data.open()
        for noise in config.noise:
            noise.check(dataset.modalities[noise.modality])
        splits = splits or Splits.draw(dataset.labels, config.splits)
        _check_calibration(len(splits.calibration), config.conformal.alpha)
        torch.manual_seed(config.seed)
        model = MultimodalClassifier(
            dataset.modalities, config.encoders, dim=config.feature_dim, classes=len(dataset.classes)
        )
        method = config.method.build(model, tuple(dataset.modalities))
        if config.epochs <= method.warmup:
            raise UserError(
                f"epochs must be larger than the {method.warmup} warm-up epochs of {config.method.name}, "
                f"got {config.epochs}: raise --epochs or lower method.warmup"
            )
        preprocessing = Preprocessing(dataset, splits.train)
        return cls(config, device, dataset, splits, preprocessing, model.to(device), method.to(device))

    def describe(self) -> dict[str, Any]:
        """Return what was built, as it stands at the head of ``results.json``."""
        return {
            "recipe": self.config.recipe,
            "method": self.config.method.name,
            "seed": self.config.seed,
            "data": {
                "name": self.config.data.name,
                "modalities": list(self.dataset.modalities),
                "classes": len(self.dataset.classes),
                "rows": len(self.dataset),
            }
            | self.splits.sizes,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Load the parameters of a checkpoint.

        Raises
        ------
        UserError
            If they do not fit the model of the configuration.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.method.load_state_dict(state["method"])
        except (KeyError, RuntimeError) as error:
            raise UserError(
                f"the checkpoint does not fit the configuration: {str(error).splitlines()[-1].strip()}"
            ) from None

    def batches(self, part: str, noise: Noise | None = None) -> Iterable[Batch]:
        """Return the batches of a part, in order."""
        rows = getattr(self.splits, part)
        return loader(self.dataset, rows, self.preprocessing, batch_size=self.config.batch_size, noise=noise)

    def shuffled(self, generator: torch.Generator) -> Iterable[Batch]:
        """Return the training batches, in a new order at each pass."""
        return loader(
            self.dataset,
            self.splits.train,
            self.preprocessing,
            batch_size=self.config.batch_size,
            generator=generator,
            pin_memory=self.device.type == "cuda",
        )

    def calibration_samples(self) -> Batch:
        """Return all calibration samples as one batch on the device."""
        rows = self.splits.calibration
        batch: Batch = next(iter(loader(self.dataset, rows, self.preprocessing, batch_size=len(rows))))
        return batch.to(self.device)

    def predict(self, batch: Batch, qhat: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the logits of samples without a label, by head."""
        with evaluation_mode(self.model, self.method):
            return self.method.predict(self.model, self.model.encode(batch.to(self.device).inputs), qhat)

    def calibration_logits(self, batch: Batch, qhat: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the logits that the in-loop conformal predictor scores, by head."""
        with evaluation_mode(self.model, self.method):
            features = self.model.encode(batch.inputs)
            return self.method.calibration_logits(self.model, features, batch.labels, qhat)


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Without gradient and in evaluation mode: dropout off, batch-norm statistics untouched."""
    before = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.train(training)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def _check_calibration(size: int, alpha: float) -> None:
    if quantile_rank(size, alpha) is None:
        raise UserError(
            f"{size} calibration samples are too few for alpha = {alpha}: the smallest usable alpha is "
            f"{1 / (size + 1):.4g}; raise splits.calibration or conformal.alpha"
        )
