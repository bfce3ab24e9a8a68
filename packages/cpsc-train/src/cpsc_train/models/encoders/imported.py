"""An encoder of a user's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.models.encoder import EncoderConfig
from cpsc_train.models.imported import build_imported


@dataclass(frozen=True, kw_only=True)
class ImportedConfig(EncoderConfig, name="import"):
    """A module of your own, by import path; a configuration that names one runs that code."""

    path: str
    """``package.module:attribute``, called with ``shape=``, ``dim=`` and the options; maps (B, *shape) to (B, dim)."""
    options: dict[str, str | int | float | bool] = field(default_factory=dict)
    """Further keyword arguments."""

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the module, after it has been tried on two samples of zeros."""
        module = build_imported(self.path, self.options, "encoder", shape=modality.shape, dim=dim)
        kind = torch.int64 if modality.kind == "text" else torch.float32
        training = module.training
        with torch.random.fork_rng(devices=()), torch.no_grad():
            try:
                out = module.eval()(torch.zeros(2, *modality.shape, dtype=kind))
            except (RuntimeError, TypeError, ValueError) as error:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise UserError(
                    f"encoder {self.path!r} cannot read samples of shape {modality.shape}: {reason}"
                ) from None
        if not isinstance(out, torch.Tensor) or tuple(out.shape) != (2, dim):
            got = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise UserError(f"encoder {self.path!r} must map 2 samples to shape (2, {dim}), got {got}")
        return module.train(training)
