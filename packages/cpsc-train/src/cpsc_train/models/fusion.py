"""Fusions: from features and logits of the modalities to one decision.

Shapes: B samples, d feature width, C classes, M modalities. A modality that no sample has is left out of both mappings;
where only some samples lack one, their features and logits are zeros.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from cpsc_train.config import Choice
from cpsc_train.models.imported import build_imported, try_out
from cpsc_train.models.presence import COMPLETE, Present, stacked

FUSED = "fused"
"""Name of the joint decision, in logits and in result files."""


class LateFusion(nn.Module):
    """The mean of the unimodal logits."""

    def __init__(self, modalities: Sequence[str], dim: int, classes: int) -> None:
        super().__init__()

    def forward(
        self, features: Mapping[str, Tensor], logits: Mapping[str, Tensor], present: Present = COMPLETE
    ) -> Tensor:
        """Map logits {m: (B, C)} to (B, C), the mean over the modalities that a sample has; zeros if it has none."""
        votes = torch.stack(list(logits.values()))
        mask = stacked(logits, present, votes[0])
        return votes.mean(0) if mask is None else votes.sum(0) / mask.sum(0).clamp(min=1)[:, None]


class ConcatFusion(nn.Module):
    """A linear layer on the features, concatenated in the order of the modalities."""

    def __init__(self, modalities: Sequence[str], dim: int, classes: int) -> None:
        super().__init__()
        self._modalities = tuple(modalities)
        self.head = nn.Linear(len(modalities) * dim, classes)

    def forward(self, features: Mapping[str, Tensor], logits: Mapping[str, Tensor]) -> Tensor:
        """Map features {m: (B, d)} to (B, C)."""
        absent = torch.zeros_like(next(iter(features.values())))
        fused: Tensor = self.head(torch.cat([features.get(m, absent) for m in self._modalities], -1))
        return fused


class SumFusion(nn.Module):
    """A linear layer on the sum of the features."""

    def __init__(self, modalities: Sequence[str], dim: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(dim, classes)

    def forward(self, features: Mapping[str, Tensor], logits: Mapping[str, Tensor]) -> Tensor:
        """Map features {m: (B, d)} to (B, C)."""
        fused: Tensor = self.head(torch.stack(list(features.values())).sum(0))
        return fused


class FusionConfig(Choice):
    """Options of a fusion."""

    module: ClassVar[type[nn.Module]]
    """The fusion, called with the modalities, the feature width and the number of classes."""
    static_graph: ClassVar[bool] = True
    """Whether the module uses the same parameters in every call; see `cpsc_train.methods.Method.static_graph`."""

    def build(self, modalities: Sequence[str], dim: int, classes: int) -> nn.Module:
        """Return a module from features {m: (B, d)} and logits {m: (B, C)} to fused logits (B, C)."""
        return self.module(modalities, dim, classes)


@dataclass(frozen=True, kw_only=True)
class LateConfig(FusionConfig, name="late"):
    """The mean of the given unimodal logits; no parameters."""

    module = LateFusion


@dataclass(frozen=True, kw_only=True)
class ConcatConfig(FusionConfig, name="concat"):
    """One linear layer on the concatenated features; zeros for a missing modality."""

    module = ConcatFusion


@dataclass(frozen=True, kw_only=True)
class SumConfig(FusionConfig, name="sum"):
    """One linear layer on the sum of the given features."""

    module = SumFusion


@dataclass(frozen=True, kw_only=True)
class ImportedFusionConfig(FusionConfig, name="import"):
    """A module of your own, by import path; using such a configuration runs that code."""

    static_graph = False
    path: str
    """``package.module:attribute``, called with ``modalities=``, ``dim=``, ``classes=`` and the options. Where samples
    lack a modality, its features and logits are zeros; a third parameter ``present`` of ``forward`` receives the masks
    {m: (B,)}."""
    options: dict[str, str | int | float | bool] = field(default_factory=dict)
    """Further keyword arguments."""

    def build(self, modalities: Sequence[str], dim: int, classes: int) -> nn.Module:
        """Return the module, after testing a copy on two samples of zeros."""
        module = build_imported(
            self.path, self.options, "fusion", modalities=tuple(modalities), dim=dim, classes=classes
        )
        features = {m: torch.zeros(2, dim) for m in modalities}
        logits = {m: torch.zeros(2, classes) for m in modalities}
        what = f"fusion {self.path!r}, given features and logits of two samples by modality,"
        try_out(module, lambda copy: copy(features, logits), (2, classes), what)
        return module


def fuse(fusion: nn.Module, features: Mapping[str, Tensor], logits: Mapping[str, Tensor], present: Present) -> Tensor:
    """Return the fused logits (B, C); only a fusion whose ``forward`` has a parameter ``present`` gets the masks."""
    if present and "present" in inspect.signature(fusion.forward).parameters:
        fused: Tensor = fusion(features, logits, present)
    else:
        fused = fusion(features, logits)
    return fused


FusionConfig.register(LateConfig, ConcatConfig, SumConfig, ImportedFusionConfig)
