"""The model trained by every method: encoders, heads, fusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from cpsc_rsc import ConformalGate
from cpsc_train.data import Modality
from cpsc_train.data.preprocessing import Scale
from cpsc_train.models.encoder import EncoderConfig
from cpsc_train.models.fusion import FUSED, FusionConfig, LateConfig
from cpsc_train.models.pixels import Pixels
from cpsc_train.models.spectrogram import LogSpectrogram

LATE = LateConfig()


class MultimodalClassifier(nn.Module):
    """One encoder and one linear head per modality, and a fusion.

    A missing modality is absent from the mappings, and its head from the logits.
    Shapes: B samples, d feature width, C classes.

    Parameters
    ----------
    modalities
        Inputs of the encoders by name, in order.
    encoders
        Options of each encoder, by name.
    fusion
        Options of the fusion.
    dim
        Feature width d, the same for all modalities.
    classes
        C.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        encoders: Mapping[str, EncoderConfig],
        *,
        fusion: FusionConfig = LATE,
        dim: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.classes = classes
        self.encoders = nn.ModuleDict({m: _encoder(encoders[m], modality, dim) for m, modality in modalities.items()})
        self.heads = nn.ModuleDict({m: nn.Linear(dim, classes) for m in modalities})
        self.fusion = fusion.build(tuple(modalities), dim, classes)
        self.gate: ConformalGate | None = None
        """Scales the features at inference; None during training and where the configuration has no gate."""

    def standardise(self, scales: Mapping[str, Scale]) -> None:
        """Set the statistics of spectrograms that the model computes, and of pixels that an encoder restores."""
        for modality, scale in scales.items():
            for module in self.encoders[modality].modules():
                if isinstance(module, LogSpectrogram):
                    module.standardise(float(scale.mean), float(scale.deviation))
                elif isinstance(module, Pixels):
                    module.standardise(scale.mean, scale.deviation)

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map {m: (B, ...)} to features {m: (B, d)}.

        Raises
        ------
        ValueError
            If there is no modality, or one is unknown.
        """
        self._check(inputs)
        return {m: encoder(inputs[m]) for m, encoder in self.encoders.items() if m in inputs}

    def gated(self, features: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the features used at inference, and the gate's weights {m: (B,)}; without a gate, no weights."""
        if self.gate is None:
            return dict(features), {}
        weights = self.gate.weights(features)
        return self.gate.scale(features, weights), weights

    def classify(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map features {m: (B, d)} to logits {m: (B, C), "fused": (B, C)}.

        Raises
        ------
        ValueError
            If there is no modality, or one is unknown.
        """
        self._check(features)
        logits = {m: head(features[m]) for m, head in self.heads.items() if m in features}
        return logits | {FUSED: self.fusion(features, logits)}

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map {m: (B, ...)} to logits {m: (B, C), "fused": (B, C)}, as at inference."""
        return self.classify(self.gated(self.encode(inputs))[0])

    def _check(self, modalities: Iterable[str]) -> None:
        names = list(modalities)
        if not names or any(name not in self.heads for name in names):
            raise ValueError(
                f"modalities must be at least one of {', '.join(self.heads)}, got {', '.join(names) or 'none'}"
            )


def _encoder(config: EncoderConfig, modality: Modality, dim: int) -> nn.Module:
    encoder = config.build(modality, dim)
    return encoder if modality.spectrum is None else nn.Sequential(LogSpectrogram(modality.spectrum), encoder)
