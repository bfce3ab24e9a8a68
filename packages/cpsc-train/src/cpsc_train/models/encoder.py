"""Interface of an encoder: options that build a module for a modality."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from cpsc_train.config import Choice
from cpsc_train.data import Modality


class EncoderConfig(Choice, plugins="cpsc_train.encoders"):
    """Options of an encoder."""

    static_graph: ClassVar[bool] = False
    """Whether the module uses the same parameters in every call; see `cpsc_train.methods.Method.static_graph`."""

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return a module from ``(B, *modality.shape)`` to features (B, dim).

        Raises
        ------
        UserError
            If the encoder cannot read samples of this kind or shape.
        """
        raise NotImplementedError


def projection(width: int, dim: int, dropout: float, *, layer: bool = False) -> nn.Module:
    """Return dropout after a layer with ReLU from a backbone's `width` to `dim`.

    If they are equal, there is no layer, unless `layer` is true: a frozen backbone leaves nothing else to train.
    """
    if width == dim and not layer:
        return nn.Dropout(dropout) if dropout else nn.Identity()
    return nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Dropout(dropout))
