"""Gradients of the parameters of an optimizer: checked for, computed, added and scaled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import LBFGS, Optimizer


def check_encoders(encoders: Mapping[str, nn.Module] | nn.ModuleDict) -> dict[str, nn.Module]:
    """Return the encoders by modality, at least one; refuse anything else."""
    is_mapping = isinstance(encoders, (Mapping, nn.ModuleDict)) and len(encoders) > 0
    if not is_mapping or not all(isinstance(encoder, nn.Module) for encoder in encoders.values()):
        raise TypeError(f"encoders must map each modality, at least one, to a module, got {encoders!r}")
    return dict(encoders.items())


def check_optimizer(optimizer: Optimizer, encoders: Mapping[str, nn.Module]) -> None:
    """Refuse objects other than optimizers, LBFGS, and optimizers without a trainable parameter of an encoder."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    if isinstance(optimizer, LBFGS):
        raise TypeError(
            "optimizer must not compare values of the loss, which this gradient is not part of (use gsc_loss), "
            "got LBFGS"
        )
    parameters = set(parameters_of(optimizer))
    for modality, encoder in encoders.items():
        trainable = [p for p in encoder.parameters() if p.requires_grad]
        missing = sum(p not in parameters for p in trainable)
        if missing:
            raise ValueError(
                f"optimizer must hold all trainable parameters of encoders[{modality!r}], got one that lacks "
                f"{missing} of {len(trainable)}"
            )


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of all groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def is_unscaled(scaler: GradScaler | None, optimizer: Optimizer | None) -> bool:
    """Whether the scaler has unscaled the gradients of this step; it has no public name for that."""
    if scaler is None:
        return False
    return bool(scaler._per_optimizer_states[id(optimizer)]["stage"] is not OptState.READY)


def of_loss(loss: Tensor, parameters: Iterable[Tensor]) -> dict[Tensor, Tensor]:
    """Return the gradient of a loss for those trainable parameters that it depends on, and keep its graph."""
    if not loss.requires_grad:
        raise ValueError("unimodal_logits must carry a graph, got logits that were detached or computed in no_grad")
    trainable = [p for p in parameters if p.requires_grad]
    gradients = torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True)
    used = {p: g for p, g in zip(trainable, gradients, strict=True) if g is not None}
    if not used:
        raise ValueError("unimodal_logits must depend on a parameter of the optimizer, got none that does")
    return used


def add(gradients: Mapping[Tensor, Tensor]) -> None:
    """Add to ``.grad`` of each parameter, except those frozen since."""
    for parameter, added in gradients.items():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.add_(added)


def scale(modules: Iterable[nn.Module], factor: Tensor) -> None:
    """Multiply ``.grad`` of the modules' parameters, those of a shared module once."""
    for parameter in dict.fromkeys(p for module in modules for p in module.parameters()):
        if parameter.grad is not None:
            parameter.grad.mul_(factor.to(parameter.grad.device))


def run_after_closure(
    args: tuple[Any, ...], kwargs: dict[str, Any], action: Callable[[], None]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments of ``Optimizer.step`` with `action` at the end of their closure, or run it without one."""
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if closure is None:
        action()
        return None

    @wraps(closure)
    def extended() -> Any:
        loss = closure()
        action()
        return loss

    if "closure" in kwargs:
        return args, kwargs | {"closure": extended}
    return (args[0], extended, *args[2:]), kwargs
