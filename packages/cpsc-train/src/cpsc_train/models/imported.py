"""User modules, by import path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cpsc_train.config import load_module
from cpsc_train.data import Modality
from cpsc_train.errors import UserError, out_of_memory, reason
from cpsc_train.models.encoder import EncoderConfig


def build_imported(path: str, options: Mapping[str, Any], kind: str, **arguments: Any) -> nn.Module:
    """Import ``package.module:attribute`` and call it with the arguments and options.

    Raises UserError if the path cannot be imported, the call fails, or it does not return a module.
    """
    module, colon, attribute = path.partition(":")
    if not colon or not module or not attribute:
        raise UserError(f"{kind}.path must read package.module:attribute, got {path!r}")
    imported = load_module(module, f"{kind}.path {path!r}")
    if not hasattr(imported, attribute):
        raise UserError(f"{kind}.path {path!r}: {module} has no {attribute!r}")
    try:
        result = getattr(imported, attribute)(**arguments, **options)
    except Exception as error:
        if out_of_memory(error):
            raise
        raise UserError(
            f"{kind}.path {path!r} cannot be called with {', '.join([*arguments, *options])}: {reason(error)}"
        ) from None
    if not isinstance(result, nn.Module):
        raise UserError(f"{kind}.path {path!r} must return a torch module, got {type(result).__name__}")
    return result


def try_out(module: nn.Module, call: Callable[[nn.Module], Any], shape: tuple[int, ...], what: str) -> None:
    """Call a copy of a module once in evaluation mode, and check the shape of the result.

    Neither the module nor the state of the random numbers changes. Raises UserError if the call fails or returns
    another shape; starts with `what`.
    """
    with torch.random.fork_rng(devices=()), torch.no_grad():
        try:
            out = call(deepcopy(module).eval())
        except Exception as error:  # a user's module can fail in any way
            if out_of_memory(error):
                raise
            raise UserError(f"{what} fails: {reason(error)}") from None
    if not isinstance(out, Tensor) or tuple(out.shape) != shape:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise UserError(f"{what} must return a tensor of shape {shape}, got {got}")


@dataclass(frozen=True, kw_only=True)
class ImportedConfig(EncoderConfig, name="import"):
    """A module of your own, by import path; using such a configuration runs that code."""

    path: str
    """``package.module:attribute``, called with ``shape=``, ``dim=`` and the options; maps (B, *shape) to (B, dim)."""
    options: dict[str, str | int | float | bool] = field(default_factory=dict)
    """Further keyword arguments."""

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the module, after testing a copy on two samples of zeros."""
        module = build_imported(self.path, self.options, "encoder", shape=modality.shape, dim=dim)
        kind = torch.int64 if modality.kind == "text" else torch.float32
        samples = torch.zeros(2, *modality.shape, dtype=kind)
        what = f"encoder {self.path!r}, given two samples of shape {modality.shape},"
        try_out(module, lambda copy: copy(samples), (2, dim), what)
        return module
