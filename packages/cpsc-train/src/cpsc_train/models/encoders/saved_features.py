"""Saved features of an encoder at several depths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.models.encoders.scratch import MLPConfig


@dataclass(frozen=True, kw_only=True)
class SavedFeaturesConfig(MLPConfig, name="saved-features"):
    """An MLP of the last of several saved depths; the others are only visible to hooks."""

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the module for vectors (B, d_1 + … + d_K) with known widths d_k."""
        if not modality.depths:
            raise UserError(
                f"saved-features reads a vector whose depths are known, got {modality.summary}: use mlp, or extract "
                "the features with cpsc data features --depths"
            )
        last = replace(modality, shape=modality.depths[-1:], depths=())
        return SavedFeatures(modality.depths, super().build(last, dim))


class SavedFeatures(nn.Module):
    """The encoder of the features at the last depth, as if the earlier depths were computed before them.

    Each depth passes through a module of its own, ``depths.0`` to ``depths.K−1``, which returns it unchanged.

    - `widths`: d_1, …, d_K.
    - `last`: from (B, d_K) to (B, d).

    Examples
    --------
    >>> import torch
    >>> SavedFeatures((2, 3), nn.Identity())(torch.arange(5.0)[None])
    tensor([[2., 3., 4.]])
    """

    def __init__(self, widths: Sequence[int], last: nn.Module) -> None:
        super().__init__()
        self.depths = nn.ModuleList(nn.Identity() for _ in widths)
        self.last = last
        self._widths = list(widths)
        self.tap_names = tuple(f"depths.{place}" for place in range(len(widths)))
        """Names of the submodules whose outputs are the depths."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, d_1 + … + d_K) to (B, d)."""
        parts = [depth(part) for depth, part in zip(self.depths, x.split_with_sizes(self._widths, 1), strict=True)]
        features: Tensor = self.last(parts[-1])
        return features
