"""The model trained by every method: encoders, heads, fusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from cpsc_rsc import Taps
from cpsc_train.data import Modality
from cpsc_train.data.preprocessing import Scale
from cpsc_train.models.encoder import EncoderConfig
from cpsc_train.models.fusion import FUSED, FusionConfig, LateConfig, fuse
from cpsc_train.models.inputs import LogSpectrogram, Pixels, split_spectrogram
from cpsc_train.models.presence import COMPLETE, Present, only_present

LATE = LateConfig()
NO_TAPS: Mapping[str, Taps] = {}


class MultimodalClassifier(nn.Module):
    """One encoder and one linear head per modality, and a fusion.

    A modality that no sample has is left out of the mappings, and its head out of the logits. Where only some samples
    lack a modality, `present` has the masks: features and unimodal logits of samples that lack it are zeros.
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

    def standardise(self, scales: Mapping[str, Scale]) -> None:
        """Set the statistics of spectrograms that the model computes, and of pixels that an encoder restores."""
        for modality, scale in scales.items():
            for module in self.encoders[modality].modules():
                if isinstance(module, LogSpectrogram):
                    module.standardise(float(scale.mean), float(scale.std))
                elif isinstance(module, Pixels):
                    module.standardise(scale.mean, scale.std)

    def encode(self, inputs: Mapping[str, Tensor], present: Present = COMPLETE) -> dict[str, Tensor]:
        """Map {m: (B, ...)} to features {m: (B, d)}; zeros for samples that lack the modality.

        Parameters
        ----------
        inputs
            By modality. An encoder is called with zeros for samples that lack its modality.
        present
            True for samples that have a modality, {m: (B,) bool}; one that is not listed is present in all samples.

        Raises
        ------
        ValueError
            If there is no modality, or one is unknown.
        """
        return self.encode_depths(inputs, present)[0]

    def encode_depths(
        self, inputs: Mapping[str, Tensor], present: Present = COMPLETE, taps: Mapping[str, Taps] = NO_TAPS
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, ...]]]:
        """Map {m: (B, ...)} to features {m: (B, d)}, and pooled activations of the encoders {m: K times (B, d_k)}.

        Parameters
        ----------
        inputs, present
            As for `encode`.
        taps
            By modality, from `model_taps`; a modality that is not listed has no activations. Rows of samples that lack
            the modality have no meaning.

        Raises
        ------
        ValueError
            As for `encode`, and if an encoder has no submodule of a name, or does not call it.
        """
        self._check(inputs)
        encoded = {
            m: _encoded(encoder, inputs[m], present.get(m), taps.get(m))
            for m, encoder in self.encoders.items()
            if m in inputs
        }
        features = {m: h for m, (h, _) in encoded.items()}
        return features, {m: depths for m, (_, depths) in encoded.items() if m in taps}

    def unimodal(self, features: Mapping[str, Tensor], present: Present = COMPLETE) -> dict[str, Tensor]:
        """Map features {m: (B, d)} to the logits {m: (B, C)} of each modality's head."""
        return {m: only_present(head(features[m]), present.get(m)) for m, head in self.heads.items() if m in features}

    def classify(self, features: Mapping[str, Tensor], present: Present = COMPLETE) -> dict[str, Tensor]:
        """Map features {m: (B, d)} to logits {m: (B, C), "fused": (B, C)}.

        Raises
        ------
        ValueError
            If there is no modality, or one is unknown.
        """
        self._check(features)
        logits = self.unimodal(features, present)
        return logits | {FUSED: fuse(self.fusion, features, logits, present)}

    def forward(self, inputs: Mapping[str, Tensor], present: Present = COMPLETE) -> dict[str, Tensor]:
        """Map {m: (B, ...)} to logits {m: (B, C), "fused": (B, C)}, without an inference variant."""
        return self.classify(self.encode(inputs, present), present)

    def _check(self, modalities: Iterable[str]) -> None:
        names = list(modalities)
        if not names or any(name not in self.heads for name in names):
            raise ValueError(
                f"modalities must be at least one of {', '.join(self.heads)}, got {', '.join(names) or 'none'}"
            )


def _encoder(config: EncoderConfig, modality: Modality, dim: int) -> nn.Module:
    encoder = config.build(modality, dim)
    return encoder if modality.spectrum is None else nn.Sequential(LogSpectrogram(modality.spectrum), encoder)


def _encoded(
    encoder: nn.Module, x: Tensor, present: Tensor | None, taps: Taps | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the features of inputs (B, ...), and pooled activations.

    Inputs and features of samples that lack the modality are zeros.
    """
    spectrogram, encoder = split_spectrogram(encoder)
    if spectrogram is not None:
        x = spectrogram(x)  # before the zeros, since silence is not zero there
    x = only_present(x, present)
    features, depths = (encoder(x), ()) if taps is None else taps(encoder, x)
    return only_present(features, present), depths
