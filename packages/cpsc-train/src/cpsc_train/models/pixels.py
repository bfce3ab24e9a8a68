"""Input of an encoder that was trained on 8-bit photographs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsc_train.data import Modality
from cpsc_train.errors import UserError


class Pixels(nn.Module):
    """Map standardised images to ``(pixel − centre) / unit`` in three channels, with pixels in [0, 255].

    Valid values of the modality, such as 0 to 10 m of depth, are mapped to [0, 255] linearly. One channel is repeated.
    Raises UserError if the modality is anything else.

    - `modality`: an image or frames with bounds, of one or three channels.
    - `centre` and `unit`: as above.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, modality: Modality, centre: float, unit: float) -> None:
        super().__init__()
        shape = modality.shape
        if modality.bounds is None or len(shape) not in {3, 4} or shape[-3] not in {1, 3}:
            raise UserError(
                "a pretrained encoder of photographs reads images of one or three channels with known bounds, got "
                f"{modality.kind} of shape {shape}: use small-cnn or mlp"
            )
        self._bounds, self._centre, self._unit = modality.bounds, centre, unit
        self.register_buffer("factor", torch.ones(3, 1, 1))
        self.register_buffer("offset", torch.zeros(3, 1, 1))
        known = modality.mean is not None and modality.deviation is not None
        self.standardise(*(np.asarray(x) for x in ((modality.mean, modality.deviation) if known else (0.0, 1.0))))

    def standardise(self, mean: NDArray[Any], deviation: NDArray[Any]) -> None:
        """Set the statistics by which the input is standardised, one number or one per channel."""
        low, high = self._bounds
        scale = 255 / (high - low)
        values = {
            "factor": deviation * scale / self._unit,
            "offset": ((mean - low) * scale - self._centre) / self._unit,
        }
        for name, value in values.items():
            channels = np.broadcast_to(np.asarray(value, dtype=np.float32).reshape(-1, 1, 1), (3, 1, 1))
            getattr(self, name).copy_(torch.from_numpy(channels.copy()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C, H, W) to (..., 3, H, W)."""
        return x * self.factor + self.offset  # one channel becomes three
