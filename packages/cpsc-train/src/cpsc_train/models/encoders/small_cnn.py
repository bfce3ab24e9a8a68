"""Small convolutional encoder for images of a few hundred pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from cpsc_train.config.rules import COUNT
from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.models.encoder import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class SmallCNNConfig(EncoderConfig, name="small-cnn"):
    """Two 3×3 convolutions with batch norm, ReLU and 2×2 max-pooling, then a linear layer with ReLU."""

    rules = {"channels": COUNT}

    channels: int = 16
    """Channels of the first convolution; the second has twice as many."""

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the encoder for samples of shape (channels, height, width), at least 4×4 pixels."""
        shape = modality.shape
        if len(shape) != 3 or min(shape[1:]) < 4:
            raise UserError(f"small-cnn accepts images of at least 4×4 pixels, got samples of shape {shape}: use mlp")
        channels, height, width = shape
        doubled = 2 * self.channels
        return nn.Sequential(
            nn.Conv2d(channels, self.channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(self.channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(self.channels, doubled, 3, padding=1, bias=False),
            nn.BatchNorm2d(doubled),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(doubled * (height // 4) * (width // 4), dim),
            nn.ReLU(),
        )
