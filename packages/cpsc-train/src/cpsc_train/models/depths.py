"""Depths of the encoders at which activations are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from cpsc_rsc import Taps
from cpsc_train.errors import UserError
from cpsc_train.models.inputs import split_spectrogram
from cpsc_train.models.multimodal import MultimodalClassifier


def model_taps(
    model: MultimodalClassifier, names: Mapping[str, Sequence[str]] | None = None, count: int = 2
) -> dict[str, Taps]:
    """Return the depths of every modality's encoder, for `MultimodalClassifier.encode_depths`.

    Raises UserError if a modality or a submodule is unknown.

    - `model`: only the structure of its encoders is read.
    - `names`: submodules by modality, in its encoder (of a waveform: the encoder of its spectrogram); a modality that
      is not listed has the default spread of `cpsc_rsc.Taps`.
    - `count`: depths of the default spread, at least 1.
    """
    names = names or {}
    if unknown := sorted(names.keys() - model.encoders.keys()):
        raise UserError(f"depths must be of the modalities {', '.join(model.encoders)}, got {unknown[0]!r}")
    taps = {}
    for m, encoder in model.encoders.items():
        try:
            taps[m] = Taps(split_spectrogram(encoder)[1], names.get(m), count=count)
        except ValueError as error:
            raise UserError(f"depths of {m}: {error}") from None
    return taps


def depth_widths(
    model: MultimodalClassifier, taps: Mapping[str, Taps], inputs: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    """Return the widths d_k of the depths by modality, by a forward pass of one or two samples {m: (B, ...)}."""
    widths = {}
    for m, tap in taps.items():
        spectrogram, encoder = split_spectrogram(model.encoders[m])
        widths[m] = tap.widths(encoder, inputs[m] if spectrogram is None else spectrogram(inputs[m]))
    return widths
