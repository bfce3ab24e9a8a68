"""The model every method trains: encoders, heads, fusion."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from cpsc_train.data import Modality
from cpsc_train.models.encoder import EncoderConfig
from cpsc_train.models.fusion import FUSED, LateFusion


class MultimodalClassifier(nn.Module):
    """One encoder and one linear head a modality, and a fusion of their logits.

    Shapes: B samples, d feature width, C classes.

    Parameters
    ----------
    modalities
        By name, in order: what each encoder is given.
    encoders
        By name: options of each encoder.
    dim
        Feature width d, the same for all modalities.
    classes
        C.
    """

    def __init__(
        self, modalities: Mapping[str, Modality], encoders: Mapping[str, EncoderConfig], *, dim: int, classes: int
    ) -> None:
        super().__init__()
        self.dim = dim
        self.classes = classes
        self.encoders = nn.ModuleDict({m: encoders[m].build(modalities[m].shape, dim) for m in modalities})
        self.heads = nn.ModuleDict({m: nn.Linear(dim, classes) for m in modalities})
        self.fusion = LateFusion()

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map {m: (B, ...)} to features {m: (B, d)}."""
        return {m: encoder(inputs[m]) for m, encoder in self.encoders.items()}

    def classify(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map features {m: (B, d)} to logits {m: (B, C), "fused": (B, C)}."""
        logits = {m: head(features[m]) for m, head in self.heads.items()}
        return logits | {FUSED: self.fusion(logits)}

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map {m: (B, ...)} to logits {m: (B, C), "fused": (B, C)}."""
        return self.classify(self.encode(inputs))
