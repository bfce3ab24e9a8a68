"""A multilayer perceptron for feature vectors."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import nn

from cpsc_train.config.rules import COUNT, DECAY
from cpsc_train.data import Modality
from cpsc_train.models.encoder import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class MLPConfig(EncoderConfig, name="mlp"):
    """One hidden layer, ReLU after both."""

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
