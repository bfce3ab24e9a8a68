"""A user's encoder."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from cpsc_train.data import Modality
from cpsc_train.models.encoder import EncoderConfig
from cpsc_train.models.imported import build_imported, try_out


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
