"""A small convolutional network for images of a few hundred pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.models.encoder import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class SmallCNNConfig(EncoderConfig, name="small-cnn"):
    """Two 3×3 convolutions with batch norm, each halving the image, then a linear layer with ReLU."""

    channels: int = 16
    """Channels of the first convolution; the second has twice as many."""

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise UserError(f"small-cnn.channels must be at least 1, got {self.channels}")

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the module for (channels, height, width) samples of at least 4×4."""
        shape = modality.shape
        if len(shape) != 3 or min(shape[1:]) < 4:
            raise UserError(f"small-cnn reads images of at least 4×4, got samples of shape {shape}: use mlp")
        channels, height, width = shape
        wide = 2 * self.channels
        return nn.Sequential(
            nn.Conv2d(channels, self.channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(self.channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(self.channels, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(wide * (height // 4) * (width // 4), dim),
            nn.ReLU(),
        )
