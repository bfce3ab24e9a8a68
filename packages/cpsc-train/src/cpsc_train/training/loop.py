"""The training loop: warm-up, then calibrate, step and refresh.

No step waits for the device: losses are checked every `CHECK_EVERY` steps, and figures are read once an epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from cpsc_train.data import Batch
from cpsc_train.evaluation import METRICS, Thresholds, coverage
from cpsc_train.methods import StepLosses
from cpsc_train.models import FUSED
from cpsc_train.reporting.observer import Observer
from cpsc_train.training import parallel
from cpsc_train.training.calibration_share import calibration_share
from cpsc_train.training.checkpoint import fitting
from cpsc_train.training.evaluator import Evaluator
from cpsc_train.training.finite import LossCheck, check_parameters, to_floats
from cpsc_train.training.nested import moved
from cpsc_train.training.random_states import random_states, seed_all, set_random_states
from cpsc_train.training.record import EpochRecord, redistributed
from cpsc_train.training.refresh import Refresh
from cpsc_train.training.setup import Setup
from cpsc_train.training.step import Stepper

TRACED = 20
"""Approximate number of times an epoch that the quantiles are recorded."""


class Trainer:
    """A run in training: trains an epoch, validates, saves and restores the state."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.config = setup.config
        self.stepper = Stepper(setup)
        self.objective = self.stepper.objective
        self.epoch = 0
        """Epochs completed."""
        self.steps = 0
        """Steps completed."""
        self.schedule = self.config.schedule.build(self.stepper.optimizer, self.config.epochs)
        self.refresh = Refresh(
            calibration_share(setup),
            self.config.conformal,
            batch_size=self.config.batch_size,
            score=self.objective.calibration_logits,
        )
        self.refresh.on_full.append(lambda: self.objective.method.on_refresh(self.objective.model))
        self._order = setup.order()
        self._batches = setup.training_batches(self._order)
        self._record = EpochRecord()
        self._losses = LossCheck(self.config, setup.device)
        self._position = 0

    @property
    def warming_up(self) -> bool:
        """Whether training has not reached the end of the warm-up."""
        return self.epoch < self.objective.method.warmup

    def train_epoch(self, observer: Observer, after_step: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Train an epoch, or the rest of one, and return its record.

        `after_step` is called after each step except the last; the state may be saved in it. Raises UserError if a loss
        or a parameter is not finite.
        """
        calibrating = self.objective.method.conformal and not self.warming_up
        self._start_epoch(calibrating=calibrating)
        batches = iter(self._batches)
        times = dict.fromkeys(("data", "step", "refresh"), 0.0)
        clock = time.perf_counter()
        for step in range(self._position, self._order.steps):
            weights = self._order.weights(step)
            read = [next(batches) for _ in weights]
            clock = _lap(times, "data", clock)
            self._step(read, weights)
            clock = _lap(times, "step", clock)
            if calibrating:
                self._refresh(step)
            clock = _lap(times, "refresh", clock)
            if self.steps % self._losses.every == 0:
                self._losses.check(self.epoch)
            self._position = step + 1
            if self._position < self._order.steps:
                after_step()
            observer.step()
        return self._end_epoch(calibrating=calibrating) | {"time": times}

    def validate(self) -> dict[str, Any]:
        """Return accuracy, negative log-likelihood and coverage on the validation rows, and step the schedule.

        ``coverage`` is that of a predictor calibrated on the current predictions; ``in_loop_coverage`` is that of the
        predictor in the loop with its current quantile, on the logits it is calibrated on.
        """
        evaluator = self.evaluator()
        validation = evaluator.collect("validation")
        thresholds = Thresholds(
            lambda absent: [evaluator.collect("calibration", without=absent)], alpha=self.config.conformal.alpha
        )
        accuracy = METRICS["accuracy"](validation)
        report = {
            "accuracy": accuracy,
            "nll": METRICS["negative_log_likelihood"](validation),
            "coverage": {
                head: {key: figures[key] for key in ("target", "coverage", "mean_size", "threshold")}
                for head, figures in coverage(thresholds, validation).items()
            },
        }
        if self.refresh.qhat is not None:
            report["in_loop_coverage"] = evaluator.in_loop_coverage("validation", self.refresh.qhat)
        self.schedule.step(accuracy[FUSED])
        return report

    def evaluator(self) -> Evaluator:
        """Return an evaluator of the model that is validated and saved: the moving average if there is one."""
        self.setup.process.same_buffers(self.objective)
        objective, qhat = self.stepper.evaluated(), self.refresh.qhat
        if self.stepper.average is not None and qhat is not None:
            qhat = self.refresh.quantiles(objective.calibration_logits)
        return Evaluator(self.setup, objective, qhat)

    def model_state(self) -> dict[str, Any]:
        """Return the state from which the model can be evaluated; raise UserError if a parameter is not finite."""
        check_parameters(self.objective, self.epoch, self.steps)
        evaluator = self.evaluator()
        return {
            "epoch": self.epoch,
            "model": evaluator.objective.model.state_dict(),
            "method": evaluator.objective.method.state_dict(),
            "qhat": evaluator.qhat,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which training can be resumed; every process must call this.

        Tensors of a sharded run are DTensors. Raises UserError if a parameter is not finite.
        """
        check_parameters(self.objective, self.epoch, self.steps)
        # On the host, since another process would restore a tensor to the same GPU as here.
        record = moved(self._record.state_dict(), torch.device("cpu"))
        mine = {"random": random_states(), "record": record}
        return {
            "epoch": self.epoch,
            "steps": self.steps,
            "position": self._position,
            "objective": dict(self.objective.state_dict()),
            "stepper": self.stepper.state_dict(),
            "schedule": self.schedule.state_dict(),
            "refresh": self.refresh.state_dict(),
            "processes": self.setup.process.gather_objects(mine),
        }

    def sharded_tensors(self) -> dict[str, DTensor]:
        """Return the tensors of a state of which this process has a part, by path."""
        return parallel.sharded_tensors(self.objective, self.stepper.optimizer)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state; of another number of processes, random generators are seeded anew.

        Raises UserError if it does not fit the configuration.
        """
        process, device = self.setup.process, self.setup.device
        with fitting():
            self.objective.load_state_dict(state["objective"])
            self.stepper.load_state_dict(state["stepper"])
            self.schedule.load_state_dict(state["schedule"])
            self.refresh.load_state_dict(moved(state["refresh"], device))
            self.epoch, self.steps, self._position = state["epoch"], state["steps"], state["position"]
            saved = state["processes"]
            if len(saved) == process.world:
                record = saved[process.rank]["record"]
                set_random_states(saved[process.rank]["random"])
            else:
                record = redistributed([one["record"] for one in saved], first=process.first)
                seed_all(self.config.seed, self.epoch, self._position, process.rank)
            self._record.load_state_dict(moved(record, device))

    def _start_epoch(self, *, calibrating: bool) -> None:
        method, process = self.objective.method, self.setup.process
        method.on_epoch_start(self.epoch, process.sum)
        if self._position == 0:
            if needed := method.features_needed(self.epoch):
                process.same_buffers(self.objective)
                evaluator = Evaluator(self.setup, self.objective, self.refresh.qhat)
                method.on_features(self.objective.model, {part: evaluator.part(part) for part in needed})
            if calibrating:
                self.refresh.start_epoch()
        self.objective.train()
        self._order.go_to(epoch=self.epoch, step=self._position)

    def _step(self, batches: list[Batch], weights: list[float]) -> None:
        """Make the optimizer steps of some batches: one, or as many as the method asks for."""
        qhat = None if self.warming_up else self.refresh.qhat
        sizes = self._order.sizes(self._position)
        losses = [StepLosses({}, {})] * len(batches)
        for step in range(self.objective.method.steps_per_batch):
            self.objective.encoded = self.objective.method.on_step_start(step)
            outs = self.stepper.step(batches, weights, sizes, qhat)
            losses = [before | out for before, (out, _) in zip(losses, outs, strict=True)]
        for out, (_, batch), weight in zip(losses, outs, weights, strict=True):
            if weight:
                self._record.add(out, batch.labels, batch.present)
        self.steps += 1
        self._losses.add(self.steps, batches, losses[-1].terms)

    def _refresh(self, step: int) -> None:
        self.setup.process.same_buffers(self.objective)
        self.refresh.after_step()
        if step % max(1, self._order.steps // TRACED) == 0 and self.refresh.qhat is not None:
            self._record.trace(self.steps, self.refresh.qhat)

    def _end_epoch(self, *, calibrating: bool) -> dict[str, Any]:
        self._losses.check(self.epoch)
        check_parameters(self.objective, self.epoch, self.steps)
        plain = "warm-up" if self.objective.method.warmup else "training"
        record = self._record.read(self.setup.process) | {
            "step": self.steps,
            "phase": "self-calibration" if calibrating else plain,
            "lr": self.stepper.optimizer.param_groups[0]["lr"],
            "in_loop_quantile": to_floats(self.refresh.qhat or {}),
            "staleness": self.refresh.staleness,
        }
        self.epoch, self._position, self._record = self.epoch + 1, 0, EpochRecord()
        return record


def _lap(times: dict[str, float], name: str, since: float) -> float:
    now = time.perf_counter()
    times[name] += now - since
    return now
