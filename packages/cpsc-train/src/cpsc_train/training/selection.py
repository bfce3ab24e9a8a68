"""Selection of the best epoch, early stopping, and checkpoints."""

from __future__ import annotations

import time
from typing import Any

from cpsc_train import interrupts
from cpsc_train.errors import UserError
from cpsc_train.models import FUSED
from cpsc_train.reporting.observer import Observer
from cpsc_train.runs.folder import RunFolder
from cpsc_train.training import checkpoint
from cpsc_train.training.checkpoint import fitting
from cpsc_train.training.checkpoints import CPU, Checkpoints
from cpsc_train.training.compute import peak_memory
from cpsc_train.training.loop import Trainer

GRACE = 2.0
"""Seconds that a checkpoint may still take after an interrupt before it is given up, and until it is."""
FAILED = 30.0
"""The same after an error, which may concern one process only."""


class Selection:
    """Training of all epochs, which saves the parameters of the best one.

    The best epoch has the highest fused accuracy on the validation rows and, of several, the highest likelihood.
    `began` is when the run began or was resumed, by `time.perf_counter`.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder, began: float) -> None:
        self.selected: dict[str, Any] = {}
        """Number and validation accuracy of the best epoch so far."""
        self.saved_by: int | None = None
        """Number of processes that saved the state from which the run was resumed; None for a new run."""
        self._best: tuple[float, float] | None = None
        self._trainer = trainer
        self._config = trainer.config
        self._process = trainer.setup.process
        self._folder = folder
        self._checkpoints = Checkpoints(folder.checkpoints, trainer.config.checkpoints.keep, self._process)
        self._began = began

    @property
    def seconds(self) -> float:
        """Duration of the run, without the time between an interruption and the resumption."""
        return time.perf_counter() - self._began

    def fit(self, observer: Observer) -> None:
        """Train the remaining epochs. Raises UserError, among others, if a checkpoint cannot be written."""
        try:
            while self._trainer.epoch < self._config.epochs and not self._out_of_patience():
                self._epoch(observer)
            self._checkpoints.wait()
        except Exception:
            self._checkpoints.abandon(after=FAILED)
            raise
        except KeyboardInterrupt:
            self._checkpoints.abandon(after=GRACE)
            # One process alone: of several, the others may be gone.
            if self._process.world == 1 and not self._folder.checkpoint.exists():
                checkpoint.save(self._folder.checkpoint, self._trainer.model_state())
            raise

    def restore(self) -> None:
        """Restore the newest checkpoint, if there is one, and what is known of the best epoch.

        Raises UserError if one of them is damaged or does not fit, or the best epoch is missing.
        """
        state = self._checkpoints.newest(self._trainer.sharded_tensors())
        with fitting():
            if state is not None:
                self._trainer.load_state_dict(state)
                self._began -= float(state["seconds"])
                self.saved_by = len(state["processes"])
            self._restore_best()
        if self._process.first:
            self._folder.forget_after(self._trainer.epoch)
            self._checkpoints.remove_unfinished()

    def _restore_best(self) -> None:
        path = self._folder.checkpoint
        best = checkpoint.load(path, CPU) if path.exists() else {}
        if "score" in best:  # else saved by an interrupt before the first epoch that could be selected
            accuracy, likelihood = best["score"]
            self._best, self.selected = (float(accuracy), float(likelihood)), dict(best["selected"])
        elif self._trainer.epoch > self._trainer.objective.method.warmup:
            raise UserError(
                f"{path}: the best epoch is missing: restore it, or remove {self._folder.checkpoints} to train from "
                "the start"
            )

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
        self._checkpoints.save(self._trainer.steps, self._trainer.state_dict() | {"seconds": self.seconds})

    def _out_of_patience(self) -> bool:
        if self._config.patience is None or not self.selected:
            return False
        return self._trainer.epoch - int(self.selected["epoch"]) >= self._config.patience
