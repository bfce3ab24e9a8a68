"""Checks that losses and parameters are finite, with one copy to the host in many steps."""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor, nn

from cpsc_train.data import Batch
from cpsc_train.errors import UserError
from cpsc_train.training.config import RunConfig
from cpsc_train.training.parallel import whole_tensor

CHECK_EVERY = 50
"""Steps between two checks on a device other than the CPU, since each check waits for the device."""
LISTED = 5
"""Most samples named in an error."""


class LossCheck:
    """Losses of the latest steps, which are checked together."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.every = CHECK_EVERY if device.type != "cpu" else 1
        """Steps between two checks."""
        self._config = config
        self._recent: deque[tuple[int, tuple[str, ...], dict[str, Tensor]]] = deque(maxlen=CHECK_EVERY)

    def add(self, step: int, batches: list[Batch], terms: dict[str, Tensor]) -> None:
        """Add the loss terms of the last batch of a step."""
        self._recent.append((step, batches[-1].ids, terms))

    def check(self, epoch: int) -> None:
        """Raise UserError if a loss added since the last check is not finite; names term, step and samples."""
        recent = list(self._recent)
        self._recent.clear()
        for step, ids, terms in recent:
            if bad := _not_finite(terms):
                more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
                hints = ["lower optimizer.lr"]
                hints += ["take compute.precision=bf16"] * (self._config.compute.precision == "fp16")
                hints += ["take the bounded divergence, method.divergence=js"] * any("div" in name for name in bad)
                raise UserError(
                    f"epoch {epoch + 1}, step {step}: loss {', '.join(bad)} is not finite on samples "
                    f"{', '.join(ids[:LISTED])}{more}: {', or '.join(hints)}"
                )


def check_parameters(module: nn.Module, epoch: int, step: int) -> None:
    """Raise UserError if a parameter is not finite, which can happen although the loss is."""
    # The maximum of a shard may be that of no numbers.
    zeros = {name: whole_tensor((parameter.detach() * 0).sum()) for name, parameter in module.named_parameters()}
    bad = _not_finite(zeros)
    if bad:
        name = bad[0].removeprefix("model.")
        raise UserError(
            f"epoch {epoch + 1}, step {step}: parameter {name} is not finite although the loss was, so a gradient was "
            "not: lower optimizer.lr, or check your own modules for a square root or logarithm of 0"
        )


def to_floats(values: dict[str, Tensor]) -> dict[str, float]:
    """Return 0-d tensors as numbers, by one copy to the host."""
    if not values:
        return {}
    return dict(zip(values, torch.stack([value.detach().float() for value in values.values()]).tolist(), strict=True))


def _not_finite(values: dict[str, Tensor]) -> list[str]:
    return [name for name, value in to_floats(values).items() if not math.isfinite(value)]
