"""Small encoders that are trained from scratch: an MLP, a CNN of images, a CNN of series."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from cpsc_train.config.choice import COUNT, DECAY
from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.models.encoder import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class MLPConfig(EncoderConfig, name="mlp"):
    """One hidden layer, ReLU after both."""

    static_graph = True
    rules = {"hidden": COUNT, "dropout": DECAY}

    hidden: int = 128
    """Width of the hidden layer."""
    dropout: float = 0.0
    """Fraction of the hidden units that are dropped in training, in [0, 1)."""

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the module; samples of any shape are flattened."""
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(prod(modality.shape), self.hidden),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.hidden, dim),
            nn.ReLU(),
        )


@dataclass(frozen=True, kw_only=True)
class SmallCNNConfig(EncoderConfig, name="small-cnn"):
    """Two 3×3 convolutions with batch norm, ReLU and 2×2 max-pooling, then a linear layer with ReLU."""

    static_graph = True
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


@dataclass(frozen=True, kw_only=True)
class TemporalCNNConfig(EncoderConfig, name="temporal-cnn"):
    """Two convolutions over time with batch norm, ReLU and max-pooling by 2, then a linear layer with ReLU."""

    static_graph = True
    rules = {"channels": COUNT, "window": COUNT, "dropout": DECAY}

    channels: int = 64
    """Channels of both convolutions."""
    window: int = 5
    """Steps that a convolution reads at once; an odd number."""
    dropout: float = 0.0
    """Fraction of the pooled values that are dropped in training, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window % 2 == 0:
            raise UserError(f"temporal-cnn.window must be odd, got {self.window}")

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the encoder for samples of shape (time, features); UserError for others, or fewer than 4 steps."""
        shape = modality.shape
        if len(shape) != 2 or shape[0] < 4:
            raise UserError(f"temporal-cnn reads (time, features) with 4 steps or more, got samples of shape {shape}")
        steps, features = shape
        return nn.Sequential(
            Transposed(),
            *_block(features, self.channels, self.window),
            *_block(self.channels, self.channels, self.window),
            nn.Flatten(),
            nn.Dropout(self.dropout),
            nn.Linear(self.channels * (steps // 4), dim),
            nn.ReLU(),
        )


class Transposed(nn.Module):
    """From (B, time, features) to (B, features, time)."""

    def forward(self, x: Tensor) -> Tensor:
        """Exchange the last two dimensions."""
        return x.transpose(1, 2)


def _block(width: int, channels: int, window: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv1d(width, channels, window, padding=window // 2, bias=False)
    return convolution, nn.BatchNorm1d(channels), nn.ReLU(), nn.MaxPool1d(2)
