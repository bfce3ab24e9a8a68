"""Pooled features of an encoder, and activations at earlier depths beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from cpsc_rsc import Taps
from cpsc_train.config import unknown
from cpsc_train.errors import UserError
from cpsc_train.models.pretrained import BackboneEncoder
from cpsc_train.models.spectrogram import split_spectrogram


class Deep:
    """Map samples (B, ...) to vectors (B, d_1 + … + d_K): pooled activations at K − 1 submodules, and pooled features.

    Raises UserError if the encoder has no pooled features, or no submodule has the name.

    - `name`: the modality, for error messages.
    - `encoder`: its encoder, with a `BackboneEncoder` as the last module; a spectrogram may come before that.
    - `depths`: names of submodules of the `BackboneEncoder`, or K, the number of depths of the default spread of
      `cpsc_rsc.Taps`, which also pools them.
    """

    def __init__(self, name: str, encoder: nn.Module, depths: Sequence[str] | int = 1) -> None:
        self._spectrogram, last = split_spectrogram(encoder)
        if not isinstance(last, BackboneEncoder):
            raise UserError(
                f"encoders.{name}: has no pooled features to extract: use efficientnet-lite0, transformer or resnet"
            )
        try:
            taps = Taps(last, count=depths) if isinstance(depths, int) else Taps(last, (*depths, ""))
        except ValueError as error:
            raise UserError(f"--depths {name}: {error}") from None
        self.names = taps.names[:-1]
        """Names of the K − 1 submodules."""
        self.widths: tuple[int, ...] = ()
        """(d_1, …, d_K); empty before the first call."""
        self._features = _Pooled(last)
        self._taps = Taps(self._features, [*(f"encoder.{depth}" for depth in self.names), ""])

    def __call__(self, x: Tensor) -> Tensor:
        """Return the vectors in single precision."""
        _, depths = self._taps(self._features, x if self._spectrogram is None else self._spectrogram(x))
        self.widths = tuple(depth.shape[1] for depth in depths)
        return torch.cat(depths, 1).float()


class _Pooled(nn.Module):
    """An encoder without its projection."""

    def __init__(self, encoder: BackboneEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.token_mask = getattr(encoder, "token_mask", None)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.pooled(x)


def named_depths(texts: Iterable[str], modalities: Iterable[str]) -> Mapping[str, tuple[str, ...] | int]:
    """Return the depths of each modality, given a number for all modalities, and ``MODALITY:NAME,NAME``.

    Raises UserError for another form, or an unknown modality.

    Examples
    --------
    >>> named_depths(["3", "rgb:backbone._blocks.2,backbone._blocks.7"], ["rgb", "depth"])
    {'rgb': ('backbone._blocks.2', 'backbone._blocks.7'), 'depth': 3}
    """
    known = list(modalities)
    found: dict[str, tuple[str, ...] | int] = dict.fromkeys(known, 1)
    for text in sorted(texts, key=lambda text: not text.isdecimal()):  # names replace the number
        modality, _, names = text.partition(":")
        if text.isdecimal() and int(text):
            found = dict.fromkeys(known, int(text))
        elif not all(names.split(",")):
            raise UserError(f"--depths must be a number, or names such as rgb:backbone._blocks.2, got {text!r}")
        elif modality not in known:
            raise UserError("--depths: " + unknown("modality", modality, known))
        else:
            found[modality] = tuple(names.split(","))
    return found
