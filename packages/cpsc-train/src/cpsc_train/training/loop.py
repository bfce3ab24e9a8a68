"""The one training loop: warm-up, then calibrate, step, refresh; select on validation; look at test once."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from cpsc_train.data import Batch
from cpsc_train.evaluation import Predictions, coverage, measure
from cpsc_train.models import FUSED
from cpsc_train.observability import Observer, RunFolder
from cpsc_train.training import checkpoint
from cpsc_train.training.config import OptimizerConfig, RunConfig
from cpsc_train.training.meter import Meter
from cpsc_train.training.refresh import Refresh
from cpsc_train.training.setup import Setup

CHECK_EVERY = 50
"""Steps between two looks for a loss that is not finite, where a look costs a copy from the device."""


class Trainer:
    """The state of a run and the two things done with it: an epoch of training, and a look at the validation rows.

    Parameters
    ----------
    setup
        Data, model and method.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.config = setup.config
        self.optimizer = _optimizer(setup.config.optimizer, [*setup.model.parameters(), *setup.method.parameters()])
        self.refresh = Refresh(
            setup.calibration_samples(),
            alpha=self.config.conformal.alpha,
            policy=self.config.conformal.refresh,
            slice_size=self.config.batch_size,
            score=setup.calibration_logits,
        )
        self.epoch = 0
        self.steps = 0
        self._batches = setup.shuffled(torch.Generator().manual_seed(self.config.seed))
        self._check_every = CHECK_EVERY if setup.device.type != "cpu" else 1

    @property
    def warming_up(self) -> bool:
        """Whether the conformal predictor is not built yet."""
        return self.epoch < self.setup.method.warmup

    def train_epoch(self, observer: Observer) -> dict[str, Any]:
        """Pass over the training rows once; return what was seen on the way."""
        losses, figures = Meter(), Meter()
        calibrating = self.setup.method.conformal and not self.warming_up
        if calibrating:
            self.refresh.start_epoch()
        self.setup.model.train()
        self.setup.method.train()
        for batch in self._batches:
            self._step(batch.to(self.setup.device), losses, figures)
            if calibrating:
                self.refresh.after_step()
            if self.steps % self._check_every == 0:
                losses.check_finite(f"epoch {self.epoch + 1}, step {self.steps}")
            observer.step()
        losses.check_finite(f"epoch {self.epoch + 1}")
        self.epoch += 1
        qhat = {f"qhat_{head}": value for head, value in (self.refresh.qhat or {}).items()}
        return {
            "phase": "self-calibration" if calibrating else "training" if not self.setup.method.warmup else "warm-up",
            "loss": losses.read(),
            "train": figures.read(),
            "qhat": _floats(qhat),
            "staleness": self.refresh.staleness,
        }

    def validate(self) -> dict[str, Any]:
        """Return accuracy, negative log-likelihood and coverage on the validation rows."""
        predict = self.predict
        seen = Predictions.collect(predict, self.setup.batches("validation"))
        calibration = Predictions.collect(predict, self.setup.batches("calibration"))
        return {
            "accuracy": seen.accuracy,
            "nll": seen.negative_log_likelihood,
            "coverage": coverage(calibration, seen, alpha=self.config.conformal.alpha),
        }

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Return logits by head, with the quantiles of this moment."""
        return self.setup.predict(batch, self.refresh.qhat)

    def state(self) -> dict[str, Any]:
        """Return what is needed to predict as the model does now."""
        return {
            "format": 1,
            "epoch": self.epoch,
            "model": self.setup.model.state_dict(),
            "method": self.setup.method.state_dict(),
            "qhat": self.refresh.qhat,
        }

    def _step(self, batch: Batch, losses: Meter, figures: Meter) -> None:
        model = self.setup.model
        features = model.encode(batch.inputs)
        qhat = None if self.warming_up else self.refresh.qhat
        out = self.setup.method.losses(model, features, batch.labels, qhat)
        self.optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(out.terms.values())).sum())
        self.optimizer.step()
        self.steps += 1
        losses.add(out.terms, len(batch))
        hits = {f"accuracy_{h}": (z.argmax(-1) == batch.labels).double().mean() for h, z in out.logits.items()}
        figures.add(hits | out.diagnostics, len(batch))


def train(config: RunConfig, folder: RunFolder, observer: Observer | None = None) -> dict[str, Any]:
    """Train, select, evaluate; everything the run says lies in `folder`.

    Parameters
    ----------
    config
        The run.
    folder
        A run folder that is not there yet; it is made once data and model have been built without an error.
    observer
        Who is told of the progress; nobody if absent.

    Returns
    -------
    dict
        What ``results.json`` holds.

    Raises
    ------
    UserError
        For a mistake the user can mend, such as bad data, an existing folder, or a loss that is not finite.
    """
    began = time.perf_counter()
    observer = observer or Observer()
    setup = Setup.build(config)
    trainer = Trainer(setup)
    folder.create(config.to_plain(), setup.splits, setup.dataset)
    observer.start(setup.describe(), epochs=config.epochs, path=folder.path)
    with folder.recording():
        try:
            selected = _fit(trainer, folder, observer)
        except KeyboardInterrupt:
            if not folder.checkpoint.exists():
                checkpoint.save(folder.checkpoint, trainer.state())
            raise
        results = evaluate(folder, setup) | {"selected": selected, "seconds": time.perf_counter() - began}
        folder.write_results(results)
    observer.finish(results)
    return results


def evaluate(folder: RunFolder, setup: Setup | None = None) -> dict[str, Any]:
    """Measure the checkpoint of a run; needs its folder only.

    Parameters
    ----------
    folder
        A run folder.
    setup
        Parts already built from the same configuration; built anew if absent.

    Returns
    -------
    dict
        ``results.json`` without what only training knows (``selected``, ``seconds``).
    """
    if setup is None:
        config = RunConfig.from_plain(folder.read_config())
        setup = Setup.build(config, folder.read_splits(config.data.open()))
    state = checkpoint.load(folder.checkpoint, setup.device)
    setup.restore(state)
    figures = measure(
        lambda batch: setup.predict(batch, state["qhat"]),
        setup.batches,
        alpha=setup.config.conformal.alpha,
        noise=setup.config.noise,
    )
    return setup.describe() | figures


def _fit(trainer: Trainer, folder: RunFolder, observer: Observer) -> dict[str, Any]:
    """Train all epochs; keep the checkpoint that is best on the validation rows (accuracy, then likelihood)."""
    best: tuple[float, float] | None = None
    selected: dict[str, Any] = {}
    while trainer.epoch < trainer.config.epochs:
        selectable = not trainer.warming_up
        began = time.perf_counter()
        record = trainer.train_epoch(observer) | {"validation": trainer.validate()}
        record = {"epoch": trainer.epoch} | record | {"seconds": time.perf_counter() - began}
        key = (record["validation"]["accuracy"][FUSED], -record["validation"]["nll"][FUSED])
        if selectable and (best is None or key > best):
            best, selected = key, {"epoch": trainer.epoch, "validation_accuracy": record["validation"]["accuracy"]}
            checkpoint.save(folder.checkpoint, trainer.state())
        folder.log(record)
        observer.epoch(record)
    return selected


def _optimizer(config: OptimizerConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    lr, decay = config.lr, config.weight_decay
    match config.kind:
        case "adam":
            return torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(parameters, lr=lr, weight_decay=decay, momentum=config.momentum)
        case "adagrad":
            return torch.optim.Adagrad(parameters, lr=lr, weight_decay=decay)


def _floats(values: dict[str, Tensor]) -> dict[str, float]:
    return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True)) if values else {}
