"""A multilayer perceptron for feature vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.models.encoder import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class MLPConfig(EncoderConfig, name="mlp"):
    """One hidden layer, ReLU after both."""

    hidden: int = 128
    """Width of the hidden layer."""
    dropout: float = 0.0
    """Fraction of the hidden units that are dropped in training, in [0, 1)."""

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise UserError(f"mlp.hidden must be at least 1, got {self.hidden}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"mlp.dropout must lie in [0, 1), got {self.dropout}")

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the module; samples of any shape are flattened."""
        width = 1
        for length in modality.shape:
            width *= length
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(width, self.hidden),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.hidden, dim),
            nn.ReLU(),
        )
