"""Pooled features of an encoder, and activations at earlier depths beside them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cpsc_train.config import unknown
from cpsc_train.errors import UserError
from cpsc_train.models.encoders.transformer import Transformer
from cpsc_train.models.pretrained import BackboneEncoder


class Deep:
    """Map samples (B, ...) to vectors (B, d_1 + … + d_K): pooled activations at K − 1 submodules, and pooled features.

    Parameters
    ----------
    name
        The modality, for error messages.
    encoder
        Its encoder, with a `BackboneEncoder` as the last module; a spectrogram may come before that.
    depths
        Names of submodules of the `BackboneEncoder`. Feature maps are averaged over space (and frames), tokens over
        those that are not padding.

    Raises
    ------
    UserError
        If the encoder has no pooled features, or no submodule has the name.
    """

    def __init__(self, name: str, encoder: nn.Module, depths: Sequence[str] = ()) -> None:
        first, last = (encoder[:-1], encoder[-1]) if isinstance(encoder, nn.Sequential) else (nn.Identity(), encoder)
        if not isinstance(last, BackboneEncoder):
            raise UserError(
                f"encoders.{name}: has no pooled features to extract: use efficientnet-lite0, transformer or resnet"
            )
        known = dict(last.named_modules())
        for depth in depths:
            if depth not in known or not depth:
                near = difflib.get_close_matches(depth, known, n=3) or [n for n, _ in last.backbone.named_children()]
                raise UserError(f"--depths {name}: " + unknown("submodule", depth, near))
        self.names = tuple(depths)
        self.widths: tuple[int, ...] = ()
        """(d_1, …, d_K); empty before the first call."""
        self._first, self._encoder = first, last
        self._modules = [known[depth] for depth in depths]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the vectors in single precision."""
        x, found = self._first(x), {}
        hooks = [
            module.register_forward_hook(lambda _m, _i, output, place=place: found.__setitem__(place, output))
            for place, module in enumerate(self._modules)
        ]
        try:
            pooled = self._encoder.pooled(x)
        finally:
            for hook in hooks:
                hook.remove()
        mask = x != 0 if isinstance(self._encoder, Transformer) else None
        parts = [_pooled(found[place], len(x), mask) for place in range(len(self._modules))]
        parts.append(pooled.float())
        self.widths = tuple(part.shape[1] for part in parts)
        return torch.cat(parts, 1)


def _pooled(output: Any, rows: int, mask: Tensor | None) -> Tensor:
    values: Tensor = (output if isinstance(output, Tensor) else output[0]).float()
    if values.ndim == 3 and mask is not None:
        weights = mask.unsqueeze(-1).to(values.dtype)
        return (values * weights).sum(1) / weights.sum(1).clamp(min=1)
    if values.ndim > 2:
        values = values.flatten(2).mean(2)
    return values.reshape(rows, -1, values.shape[1]).mean(1)  # of all frames of a sample


def named_depths(texts: Iterable[str], modalities: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the names of submodules by modality, given ``MODALITY:NAME,NAME``.

    Raises
    ------
    UserError
        For another form, or an unknown modality.

    Examples
    --------
    >>> named_depths(["rgb:backbone._blocks.2,backbone._blocks.7"], ["rgb", "depth"])
    {'rgb': ('backbone._blocks.2', 'backbone._blocks.7')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        modality, _, names = text.partition(":")
        if not names:
            raise UserError(f"--depths must be MODALITY:NAME,NAME, such as rgb:backbone._blocks.2, got {text!r}")
        if modality not in (known := list(modalities)):
            raise UserError("--depths: " + unknown("modality", modality, known))
        found[modality] = (*found.get(modality, ()), *names.split(","))
    return found
