"""What the loop calls in place of the objective: shared out over processes, compiled, averaged."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cpsc_train.training.objective import Objective
from cpsc_train.training.setup import Setup


def wrapped(setup: Setup) -> Any:
    """Return what is called in a step: the objective, compiled and shared out as the configuration says."""
    called: Any = setup.objective
    if setup.process.world > 1:
        devices = [setup.device.index] if setup.device.type == "cuda" else None
        shared = nn.parallel.DistributedDataParallel
        # The loop itself keeps buffers the same; older versions of torch have another name for it.
        known = inspect.signature(shared).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        keep_buffers: dict[str, Any] = {name: False}
        # Warm-up leaves the decomposition without a gradient.
        called = shared(called, device_ids=devices, find_unused_parameters=True, **keep_buffers)
    if setup.config.compute.compile != "off":
        called = torch.compile(called, mode=setup.config.compute.compile)
    return called


def averaged(objective: Objective, decay: float) -> AveragedModel | None:
    """Return an exponential moving average of parameters and buffers; nothing where the decay is 0."""
    if not decay:
        return None
    return AveragedModel(objective, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]
