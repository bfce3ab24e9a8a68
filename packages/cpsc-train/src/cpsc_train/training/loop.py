"""The one training loop: warm-up, then calibrate, step, refresh.

Nothing in a step waits for the device: losses are looked at every `CHECK_EVERY` steps, the rest once an epoch.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from cpsc_train.data import Batch
from cpsc_train.errors import UserError
from cpsc_train.evaluation import coverage, metrics
from cpsc_train.methods import Method, StepLosses
from cpsc_train.models import FUSED
from cpsc_train.reporting.observer import Observer
from cpsc_train.training.checkpoint import random_states, set_random_states
from cpsc_train.training.evaluator import Evaluator
from cpsc_train.training.objective import Objective, losses
from cpsc_train.training.record import EpochRecord
from cpsc_train.training.refresh import Refresh
from cpsc_train.training.setup import Setup
from cpsc_train.training.wrapping import averaged, wrapped

CHECK_EVERY = 50
"""Steps between two looks for a loss that is not finite, where a look costs a copy from the device."""
TRACED = 20
"""About how many times an epoch the quantiles are noted."""


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
        self.epoch = 0
        self.steps = 0
        self.objective = setup.objective
        self.optimizer = self.config.optimizer.build(self.objective.parameters())
        self.schedule = self.config.schedule.build(self.optimizer, self.config.epochs)
        self.refresh = Refresh(
            setup.calibration_samples(),
            self.config.conformal,
            batch_size=self.config.batch_size,
            score=self.objective.calibration_logits,
            process=setup.process,
        )
        self.refresh.on_full.append(lambda: self.objective.method.on_refresh(self.objective.model))
        self._average = averaged(self.objective, self.config.ema)
        self._scaler = torch.amp.GradScaler(setup.device.type, enabled=self.config.compute.precision == "fp16")
        self._order = setup.order()
        self._batches = setup.training_batches(self._order)
        self._called = wrapped(setup)
        self._record = EpochRecord()
        self._position = 0
        self._recent: deque[tuple[int, list[tuple[str, ...]], dict[str, Tensor]]] = deque(maxlen=CHECK_EVERY)
        self._check_every = CHECK_EVERY if setup.device.type != "cpu" else 1

    @property
    def warming_up(self) -> bool:
        """Whether the conformal predictor is not built yet."""
        return self.epoch < self.objective.method.warmup

    def train_epoch(self, observer: Observer, after_step: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Pass over the training rows once, or over what is left of them; return what was seen on the way.

        Parameters
        ----------
        observer
            Receives an event for each step.
        after_step
            Called after each step but the last, when the state is whole.
        """
        calibrating = self.objective.method.conformal and not self.warming_up
        self._start_epoch()
        times = dict.fromkeys(("data", "step", "refresh"), 0.0)
        if calibrating and self._position == 0:
            self.refresh.start_epoch()
        self.objective.train()
        self._order.go_to(epoch=self.epoch, step=self._position)
        batches = iter(self._batches)
        clock = time.perf_counter()
        for step in range(self._position, self._order.steps):
            weights = self._order.weights(step)
            read = [next(batches) for _ in weights]
            clock = _lap(times, "data", clock)
            self._step(read, weights)
            clock = _lap(times, "step", clock)
            if calibrating:
                self.setup.process.same_buffers(self.objective)
                self.refresh.after_step()
                if step % max(1, self._order.steps // TRACED) == 0 and self.refresh.qhat is not None:
                    self._record.trace(self.steps, self.refresh.qhat)
            clock = _lap(times, "refresh", clock)
            if self.steps % self._check_every == 0:
                self._check_finite()
            self._position = step + 1
            if self._position < self._order.steps:
                after_step()
            observer.step()
        self._check_finite()
        self._refuse_not_finite()
        record = self._record.read(self.setup.process)
        qhat = self.refresh.qhat or {}
        seen = {
            "step": self.steps,
            "phase": self._phase(calibrating=calibrating),
            "lr": self.optimizer.param_groups[0]["lr"],
            "qhat": {f"qhat_{head}": value for head, value in zip(qhat, _floats(qhat), strict=True)},
            "staleness": self.refresh.staleness,
            "time": times,
        }
        self.epoch, self._position, self._record = self.epoch + 1, 0, EpochRecord()
        return record | seen

    def validate(self) -> dict[str, Any]:
        """Return accuracy, negative log-likelihood and coverage on the validation rows, and step the schedule.

        ``coverage`` is that of a predictor calibrated now on what the model predicts, ``in_loop_coverage`` that of the
        one in the loop, with its q̂ as it stands, on what it is calibrated on.
        """
        evaluator = self.evaluator()
        seen, calibration = evaluator.collect("validation"), evaluator.collect("calibration")
        accuracy = seen.each(metrics.accuracy)
        report = {
            "accuracy": accuracy,
            "nll": seen.each(metrics.negative_log_likelihood),
            "coverage": {
                head: {key: found[key] for key in ("target", "coverage", "mean_size", "qhat")}
                for head, found in coverage(calibration, seen, alpha=self.config.conformal.alpha).items()
            },
        }
        if self.refresh.qhat is not None:
            report["in_loop_coverage"] = evaluator.in_loop_coverage("validation", self.refresh.qhat)
        self.schedule.step(accuracy[FUSED])
        return report

    def evaluator(self) -> Evaluator:
        """Return what measures the model as it is kept: averaged, where there is an average."""
        self.setup.process.same_buffers(self.objective)
        if self._average is None:
            return Evaluator(self.setup, self.objective, self.refresh.qhat)
        averaged = cast("Objective", self._average.module)
        qhat = None if self.refresh.qhat is None else self.refresh.quantiles(averaged.calibration_logits)
        return Evaluator(self.setup, averaged, qhat)

    def selected_state(self) -> dict[str, Any]:
        """Return what is needed to predict as the model does now.

        Raises
        ------
        UserError
            If a parameter is not finite.
        """
        self._refuse_not_finite()
        evaluator = self.evaluator()
        kept = evaluator.objective
        return {
            "epoch": self.epoch,
            "model": kept.model.state_dict(),
            "method": kept.method.state_dict(),
            "qhat": evaluator.qhat,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on; every process must call it.

        Raises
        ------
        UserError
            If a parameter is not finite: nothing good could come of going on.
        """
        self._refuse_not_finite()
        mine = {"random": random_states(), "record": self._record.state_dict()}
        return {
            "epoch": self.epoch,
            "steps": self.steps,
            "position": self._position,
            "objective": self.objective.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "refresh": self.refresh.state_dict(),
            "processes": self.setup.process.gather_objects(mine),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises
        ------
        UserError
            If it does not fit the configuration, or was saved by another number of processes.
        """
        process = self.setup.process
        try:
            if len(state["processes"]) != process.world:
                raise UserError(
                    f"the run was made by {len(state['processes'])} processes, got {process.world}: "
                    "resume it with as many"
                )
            self.objective.load_state_dict(state["objective"])
            if self._average is not None:
                self._average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self._scaler.load_state_dict(state["scaler"])
            self.refresh.load_state_dict(state["refresh"])
            mine = state["processes"][process.rank]
            self._record.load_state_dict(mine["record"])
            set_random_states(mine["random"])
            self.epoch, self.steps, self._position = state["epoch"], state["steps"], state["position"]
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[-1].strip()
            raise UserError(f"the checkpoint does not fit the configuration: {reason}") from None

    def _start_epoch(self) -> None:
        method = self.objective.method
        method.on_epoch_start(self.epoch, self.setup.process.sum)
        asked = method.features_needed(self.epoch) if self._position == 0 else ()
        if asked:
            self.setup.process.same_buffers(self.objective)
            evaluator = Evaluator(self.setup, self.objective, self.refresh.qhat)
            method.on_features(self.objective.model, {part: evaluator.part_features(part) for part in asked})

    def _step(self, batches: list[Batch], weights: list[float]) -> None:
        """Make the optimizer steps of some batches: one, or as many as the method asks for."""
        method = self.objective.method
        found = [StepLosses({}, {})] * len(batches)
        for step in range(method.steps_per_batch):
            self.objective.encoded = method.on_step_start(step)
            outs, labels = self._optimizer_step(batches, weights)
            found = [seen | out for seen, out in zip(found, outs, strict=True)]
        for out, true, weight in zip(found, labels, weights, strict=True):
            if weight:
                self._record.add(out, true)
        self.steps += 1
        self._recent.append((self.steps, [batch.ids for batch in batches], found[-1].terms))

    def _optimizer_step(self, batches: list[Batch], weights: list[float]) -> tuple[list[StepLosses], list[Tensor]]:
        qhat = None if self.warming_up else self.refresh.qhat
        method = self.objective.method
        self.optimizer.zero_grad()
        found, labels = [], []
        notes: list[tuple[Tensor, Tensor]] = []
        for place, (batch, weight) in enumerate(zip(batches, weights, strict=True)):
            here = batch.to(self.setup.device)
            last = place == len(batches) - 1
            waiting = nullcontext() if last or not hasattr(self._called, "no_sync") else self._called.no_sync()
            with waiting:
                method.on_batch_start(here.rows)
                out = losses(self._called, here, qhat)
                method.backward(self.objective.model, out.terms, partial(self._backward, weight))
            found.append(out.kept())
            labels.append(here.labels)
            if (noted := method.notes()) is not None:
                notes.append((here.rows, noted.clone()))
        adjusts = type(method).on_before_optimizer_step is not Method.on_before_optimizer_step
        if adjusts or self.config.optimizer.clip_norm is not None:
            self._scaler.unscale_(self.optimizer)
        if adjusts:
            method.on_before_optimizer_step(self.objective.model, self.setup.process.sum)
        if self.config.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.config.optimizer.clip_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update_parameters(self.objective)
        self._remember(notes)
        return found, labels

    def _remember(self, notes: list[tuple[Tensor, Tensor]]) -> None:
        """Hand what a method noted of the rows of a step to the method of every process."""
        if notes:
            sizes, gather = self._order.sizes(self._position), self.setup.process.gather
            every = [(gather(rows, n), gather(noted, n)) for (rows, noted), n in zip(notes, sizes, strict=True)]
            rows, noted = (torch.cat(parts) for parts in zip(*every, strict=True))
            self.objective.method.remember(rows, noted)

    def _backward(self, weight: float, loss: Tensor) -> None:
        torch.autograd.backward(self._scaler.scale(loss * weight if weight != 1 else loss))

    def _check_finite(self) -> None:
        """Stop if a loss of the last steps was not finite; says which, where, and on which samples."""
        steps = list(self._recent)
        self._recent.clear()
        for step, batches, terms in steps:
            bad = [name for name, value in zip(terms, _floats(terms), strict=True) if not math.isfinite(value)]
            if bad:
                ids = ", ".join(batches[-1][:5])
                more = f" and {len(batches[-1]) - 5} more" if len(batches[-1]) > 5 else ""
                hints = ["lower optimizer.lr"]
                hints += ["take compute.precision=bf16"] * (self.config.compute.precision == "fp16")
                hints += ["take the bounded divergence, method.divergence=js"] * any("div" in name for name in bad)
                raise UserError(
                    f"epoch {self.epoch + 1}, step {step}: loss {', '.join(bad)} is not finite on samples {ids}{more}: "
                    + ", or ".join(hints)
                )

    def _refuse_not_finite(self) -> None:
        """Look at the parameters themselves: a gradient can be NaN where the loss was not."""
        named = {name: parameter.detach().abs().max() for name, parameter in self.objective.named_parameters()}
        bad = [name for name, value in zip(named, _floats(named), strict=True) if not math.isfinite(value)]
        if bad:
            name = bad[0].removeprefix("model.")
            raise UserError(
                f"epoch {self.epoch + 1}, step {self.steps}: parameter {name} is not finite, and the loss was, so that "
                "a gradient was not: lower optimizer.lr, or look for a root or a logarithm of 0 in modules of your own"
            )

    def _phase(self, *, calibrating: bool) -> str:
        if calibrating:
            return "self-calibration"
        return "warm-up" if self.objective.method.warmup else "training"


def _floats(values: dict[str, Tensor]) -> list[float]:
    found: list[float] = torch.stack([value.detach().float() for value in values.values()]).tolist() if values else []
    return found


def _lap(times: dict[str, float], name: str, since: float) -> float:
    now = time.perf_counter()
    times[name] += now - since
    return now
