"""The interface of an encoder: options that build a module from the shape of a sample."""

from __future__ import annotations

from torch import nn

from cpsc_train.config import Choice


class EncoderConfig(Choice):
    """Options of an encoder."""

    def build(self, shape: tuple[int, ...], dim: int) -> nn.Module:
        """Return a module from ``(B, *shape)`` to features (B, dim).

        Raises
        ------
        UserError
            If the encoder cannot read samples of this shape.
        """
        raise NotImplementedError
