"""Fusion: from what every modality says to one decision."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

FUSED = "fused"
"""Name of the joint decision beside the modalities, in logits and in result files."""


class LateFusion(nn.Module):
    """The fused logits are the mean of the unimodal ones; no parameters."""

    def forward(self, logits: Mapping[str, Tensor]) -> Tensor:
        """Map {modality: (B, C)} to (B, C)."""
        return torch.stack(list(logits.values())).mean(0)
