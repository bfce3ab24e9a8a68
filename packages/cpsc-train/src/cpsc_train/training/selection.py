"""Selection of the best epoch, early stopping, and checkpoints."""

from __future__ import annotations

import time
from typing import Any

import torch

from cpsc_train import interrupts
from cpsc_train.models import FUSED
from cpsc_train.reporting.observer import Observer
from cpsc_train.runs.folder import RunFolder
from cpsc_train.training import checkpoint
from cpsc_train.training.checkpoint import Checkpoints, fitting
from cpsc_train.training.compute import peak_memory
from cpsc_train.training.loop import Trainer

CPU = torch.device("cpu")


class Selection:
    """Training of all epochs, which saves the parameters of the best one.

    The best epoch has the highest fused accuracy on the validation rows and, of several, the highest likelihood.
    `began` is when the run began or was resumed, by `time.perf_counter`.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder, began: float) -> None:
        self.selected: dict[str, Any] = {}
        """Number and validation accuracy of the best epoch so far."""
        self._best: tuple[float, float] | None = None
        self._trainer = trainer
        self._config = trainer.config
        self._process = trainer.setup.process
        self._folder = folder
        self._checkpoints = Checkpoints(folder.checkpoints, trainer.config.checkpoints.keep)
        self._began = began

    @property
    def seconds(self) -> float:
        """Duration of the run, without the time between an interruption and the resumption."""
        return time.perf_counter() - self._began

    def fit(self, observer: Observer) -> None:
        """Train the remaining epochs."""
        try:
            while self._trainer.epoch < self._config.epochs and not self._out_of_patience():
                self._epoch(observer)
        except KeyboardInterrupt:
            # One process alone: of several, the others may be gone.
            if self._process.world == 1 and not self._folder.checkpoint.exists():
                checkpoint.save(self._folder.checkpoint, self._trainer.model_state())
            raise

    def restore(self) -> None:
        """Restore the newest checkpoint, if there is one; raise UserError if it is damaged or does not fit."""
        state = self._checkpoints.newest(CPU)
        best = checkpoint.load(self._folder.checkpoint, CPU) if self._folder.checkpoint.exists() else {}
        with fitting():
            if state is not None:
                self._trainer.load_state_dict(state)
                self._began -= float(state["seconds"])
            if "score" in best:  # else saved by an interrupt before the first epoch that could be selected
                accuracy, likelihood = best["score"]
                self._best, self.selected = (float(accuracy), float(likelihood)), dict(best["selected"])
        if self._process.first:
            self._folder.forget_after(self._trainer.epoch)

    def _epoch(self, observer: Observer) -> None:
        trainer, began, cpu = self._trainer, time.perf_counter(), time.process_time()
        selectable = not trainer.warming_up
        record = trainer.train_epoch(observer, after_step=self._after_step)
        validating = time.perf_counter()
        record["validation"] = trainer.validate()
        now = time.perf_counter()
        record["time"]["validation"] = now - validating
        record = {"epoch": trainer.epoch} | record | {"seconds": now - began}
        record["cost"] = {"cpu_seconds": time.process_time() - cpu, "peak_mib": peak_memory(trainer.setup.device)}
        if selectable:
            self._select(record["validation"])
        if self._process.first:
            self._folder.log(record)
        if trainer.epoch % self._config.checkpoints.every_epochs == 0:
            self._save()
        observer.epoch(record)

    def _select(self, validation: dict[str, Any]) -> None:
        score = (validation["accuracy"][FUSED], -validation["nll"][FUSED])
        if self._best is None or score > self._best:
            self._best = score
            self.selected = {"epoch": self._trainer.epoch, "validation_accuracy": validation["accuracy"]}
            state = self._trainer.model_state() | {"score": score, "selected": self.selected}
            if self._process.first:
                checkpoint.save(self._folder.checkpoint, state)

    def _after_step(self) -> None:
        interrupts.raise_pending()
        every = self._config.checkpoints.every_steps
        if every is not None and self._trainer.steps % every == 0:
            self._save()

    def _save(self) -> None:
        state = self._trainer.state_dict() | {"seconds": self.seconds}
        if self._process.first:
            self._checkpoints.save(self._trainer.steps, state)

    def _out_of_patience(self) -> bool:
        if self._config.patience is None or not self.selected:
            return False
        return self._trainer.epoch - int(self.selected["epoch"]) >= self._config.patience
