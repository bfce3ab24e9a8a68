"""One step of the optimizer: forward and backward passes, clipping, update, moving average."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cpsc_train.data import Batch
from cpsc_train.methods import Method, StepLosses
from cpsc_train.models.pretrained import pretrained_parameters
from cpsc_train.training.setup import Setup


class Stepper:
    """Optimizer, loss scaler and moving average of the objective of a run."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        pretrained = pretrained_parameters(setup.objective.model)
        self.optimizer = config.optimizer.build(setup.objective.parameters(), pretrained)
        self.scaler = torch.amp.GradScaler(setup.device.type, enabled=config.compute.precision == "fp16")
        self.average: AveragedModel | None = None
        """Moving average of the objective; None without one."""
        if config.ema:
            average = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(setup.objective, multi_avg_fn=average, use_buffers=True)
        self._setup = setup
        self._module = _wrapped(setup)

    def step(
        self, batches: list[Batch], weights: list[float], sizes: list[int], qhat: dict[str, Tensor] | None
    ) -> list[tuple[StepLosses, Batch]]:
        """Update the parameters once, by the accumulated gradients of some batches of this process.

        `weights` are those of the mean loss of each batch, `sizes` its samples over all processes. Returns the losses
        of each batch, and the batch on the device.
        """
        method = self._setup.objective.method
        self.optimizer.zero_grad()
        outs: list[tuple[StepLosses, Batch]] = []
        notes: list[tuple[Tensor, Tensor]] = []
        for place, (batch, weight) in enumerate(zip(batches, weights, strict=True)):
            here = batch.to(self._setup.device)
            with self._reduced(last=place == len(batches) - 1):
                method.on_batch_start(here.rows)
                out = StepLosses(*self._module(here.inputs, here.labels, qhat, here.present))
                method.backward(self._setup.objective.model, out.terms, partial(self._backward, weight))
            outs.append((out.kept(), here))
            if (noted := method.notes()) is not None:
                notes.append((here.rows, noted.clone()))
        self._update()
        if notes:
            self._remember(notes, sizes)
        return outs

    def state_dict(self) -> dict[str, Any]:
        """Return the states of optimizer, scaler and average."""
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

    def _reduced(self, *, last: bool) -> Any:
        """Return a context in which gradients are reduced over all processes only for the last batch of a step."""
        return nullcontext() if last or not hasattr(self._module, "no_sync") else self._module.no_sync()

    def _backward(self, weight: float, loss: Tensor) -> None:
        torch.autograd.backward(self.scaler.scale(loss * weight if weight != 1 else loss))

    def _update(self) -> None:
        objective, clip_norm = self._setup.objective, self._setup.config.optimizer.clip_norm
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
        self._setup.objective.method.remember(rows, noted)


def _wrapped(setup: Setup) -> Any:
    """Return the module called in a step: the objective, distributed and compiled as configured."""
    module: Any = setup.objective
    if setup.process.world > 1:
        devices = [setup.device.index] if setup.device.type == "cuda" else None
        parallel = nn.parallel.DistributedDataParallel
        # The loop synchronises buffers itself; older versions of torch have another name for the option.
        known = inspect.signature(parallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {name: False}
        # Warm-up leaves some parameters without a gradient.
        module = parallel(module, device_ids=devices, find_unused_parameters=True, **options)
    if setup.config.compute.compile != "off":
        module = torch.compile(module, mode=setup.config.compute.compile)
    return module
