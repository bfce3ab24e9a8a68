"""One step of the optimizer: forward and backward passes, clipping, update, moving average."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cpsc_train.data import Batch
from cpsc_train.methods import Method, StepLosses
from cpsc_train.models.pretrained import pretrained_parameters
from cpsc_train.training import parallel
from cpsc_train.training.objective import Objective
from cpsc_train.training.setup import Setup


class Stepper:
    """Optimizer, loss scaler and moving average of the objective of a run."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        self.objective = parallel.trained(setup)
        """The objective to train."""
        pretrained = pretrained_parameters(self.objective.model)
        self.optimizer = config.optimizer.build(self.objective.parameters(), pretrained)
        self.scaler = torch.amp.GradScaler(setup.device.type, enabled=config.compute.precision == "fp16")
        self.average: AveragedModel | None = None
        """Moving average of the objective; None without one."""
        if config.ema:
            average = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.objective, multi_avg_fn=average, use_buffers=True)
        self._setup = setup
        # DDP of a static graph supports no compiler and no no_sync (github.com/pytorch/pytorch/issues/143580), and it
        # orders buckets anew after its first step, which can change the last digits of a sum of several processes.
        compute = config.compute
        simple = compute.compile == "off" and not compute.deterministic and config.optimizer.accumulate == 1
        self._static = simple and parallel.static_graph(setup)
        self._module: Any = None
        self._calibrated = False

    def step(
        self, batches: list[Batch], weights: list[float], sizes: list[int], qhat: dict[str, Tensor] | None
    ) -> list[tuple[StepLosses, Batch]]:
        """Update the parameters once, by the accumulated gradients of some batches of this process.

        `weights` are those of the mean loss of each batch, `sizes` its samples over all processes. Returns the losses
        of each batch, and the batch on the device.
        """
        method = self.objective.method
        self._wrap(calibrated=qhat is not None)
        self.optimizer.zero_grad()
        outs: list[tuple[StepLosses, Batch]] = []
        notes: list[tuple[Tensor, Tensor]] = []
        for place, (batch, weight) in enumerate(zip(batches, weights, strict=True)):
            here = batch.to(self._setup.device)
            with self._reduced(last=place == len(batches) - 1):
                method.on_batch_start(here.rows)
                out = StepLosses(*self._module(here.inputs, here.labels, qhat, here.present))
                method.backward(self.objective.model, out.terms, partial(self._backward, weight))
            outs.append((out.kept(), here))
            if (noted := method.notes()) is not None:
                notes.append((here.rows, noted.clone()))
        self._update()
        if notes:
            self._remember(notes, sizes)
        return outs

    def state_dict(self) -> dict[str, Any]:
        """Return the states of optimizer, scaler and average; in a sharded run, those that this process has."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def evaluated(self) -> Objective:
        """Return the objective to evaluate, with complete parameters; every process must call this."""
        if self.average is not None:
            return cast("Objective", self.average.module)
        if parallel.sharded(self.objective):
            self._setup.objective.load_state_dict(parallel.state_of(self.objective))
        return self._setup.objective

    def _wrap(self, *, calibrated: bool) -> None:
        """Set the module called in a step: the objective, distributed and compiled as configured.

        The end of warm-up changes which parameters have a gradient, so the module is then built again if its graph is
        static.
        """
        if self._module is not None and not (self._static and calibrated != self._calibrated):
            return
        self._calibrated = calibrated
        self._module = None  # removes the hooks of the previous one
        module: Any = self.objective
        if self._setup.process.world > 1 and not parallel.sharded(module):
            module = parallel.replicated(module, static=self._static)
        if self._setup.config.compute.compile != "off":
            module = torch.compile(module, mode=self._setup.config.compute.compile)
        self._module = module

    def _reduced(self, *, last: bool) -> Any:
        """Return a context in which gradients are reduced over all processes only for the last batch of a step."""
        if parallel.sharded(self.objective):
            self._module.set_requires_gradient_sync(last)
        return nullcontext() if last or not hasattr(self._module, "no_sync") else self._module.no_sync()

    def _backward(self, weight: float, loss: Tensor) -> None:
        torch.autograd.backward(self.scaler.scale(loss * weight if weight != 1 else loss))

    def _update(self) -> None:
        objective, clip_norm = self.objective, self._setup.config.optimizer.clip_norm
        method = objective.method
        adjusts = type(method).on_before_optimizer_step is not Method.on_before_optimizer_step
        if adjusts or clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
        if adjusts:
            method.on_before_optimizer_step(objective.model, self._setup.process.sum)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(objective.parameters(), clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(objective)

    def _remember(self, notes: list[tuple[Tensor, Tensor]], sizes: list[int]) -> None:
        """Give the notes that all processes made of their rows to the method."""
        gather = self._setup.process.gather
        gathered = [(gather(rows, n), gather(noted, n)) for (rows, noted), n in zip(notes, sizes, strict=True)]
        rows, noted = (torch.cat(parts) for parts in zip(*gathered, strict=True))
        self.objective.method.remember(rows, noted)
