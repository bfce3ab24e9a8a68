"""ResNets of torchvision for images, spectrograms and frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cpsc_train.config.choice import COUNT, DECAY
from cpsc_train.data import Modality
from cpsc_train.errors import UserError, needs
from cpsc_train.models.encoder import EncoderConfig, projection
from cpsc_train.models.pretrained import BackboneEncoder, load_parameters


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(EncoderConfig, name="resnet"):
    """A ResNet without its classification layer, pooled; He et al., 2016, as torchvision builds it."""

    static_graph = True
    rules = {"regions": COUNT, "dropout": DECAY}

    depth: Literal[18, 34, 50, 152] = 18
    """Number of layers."""
    weights: str | None = None
    """A file with the parameters of the torchvision model of this depth (``torch.save`` of its ``state_dict``, or
    safetensors). If None, random ones. The classification layer is ignored."""
    regions: int = 1
    """Bands from left to right that are pooled separately and concatenated."""
    dropout: float = 0.0
    """Fraction of the features that are dropped in training, in [0, 1)."""

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the module for (channels, height, width) or (frames, channels, height, width)."""
        shape = modality.shape
        if len(shape) not in {3, 4}:
            raise UserError(f"resnet reads images or frames, got samples of shape {shape}: use mlp")
        with needs("torchvision", extra="vision"):
            from torchvision.models import resnet  # noqa: PLC0415  # an extra, and slow to import
        backbone = getattr(resnet, f"resnet{self.depth}")(weights=None)
        width = backbone.fc.in_features
        backbone.fc = nn.Identity()
        if self.weights is not None:
            load_parameters(backbone, Path(self.weights), model=f"ResNet{self.depth}", unused="fc.")
            backbone.pretrained = True
        if shape[-3] != 3:
            backbone.conv1 = _stem(backbone.conv1, shape[-3], keep=self.weights is not None)
        backbone.avgpool = nn.AdaptiveAvgPool2d((1, self.regions))
        return ResNet(backbone, projection(width * self.regions, dim, self.dropout))


class ResNet(BackboneEncoder):
    """A backbone to (B, width) and a projection to (B, d); the features of several frames are averaged between them."""

    def pooled(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) or (B, T, C, H, W) to (B, width)."""
        pooled: Tensor = self.backbone(x.flatten(0, 1) if x.ndim == 5 else x)
        return pooled.reshape(*x.shape[:2], -1).mean(1) if x.ndim == 5 else pooled


def _stem(conv: Any, channels: int, *, keep: bool) -> nn.Conv2d:
    """Return a first layer for another number of channels than three.

    With loaded parameters, its response to equal channels is that of the loaded layer to a grey image.
    """
    stem = nn.Conv2d(channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    if keep:
        with torch.no_grad():
            stem.weight.copy_(conv.weight.sum(1, keepdim=True) / channels)
    return stem
