"""Modules that make the input of an encoder: spectrograms of waveforms, and standardised pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsc_train.data import Modality
from cpsc_train.data.modality import Spectrum
from cpsc_train.errors import UserError


class LogSpectrogram(nn.Module):
    """Standardised log(|STFT| + 1e−7), as the loader computes it, to within 1e−5 before standardisation."""

    window: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, spectrum: Spectrum) -> None:
        super().__init__()
        self.spectrum = spectrum
        self.register_buffer("window", torch.hann_window(spectrum.n_fft), persistent=False)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def standardise(self, mean: float, std: float) -> None:
        """Set the mean and standard deviation of the standardisation."""
        self.mean.fill_(mean)
        self.std.fill_(std)

    def forward(self, waveform: Tensor) -> Tensor:
        """Map (B, n) to (B, 1, n_fft // 2 + 1, 1 + n // hop), in single precision also under autocast."""
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                waveform.float(),
                self.spectrum.n_fft,
                self.spectrum.hop,
                window=self.window,
                center=True,
                pad_mode="reflect",
                return_complex=True,
            )
            return ((spectrum.abs() + 1e-7).log()[:, None] - self.mean) / self.std


def split_spectrogram(encoder: nn.Module) -> tuple[LogSpectrogram | None, nn.Module]:
    """Return the spectrogram in front of an encoder of waveforms, if there is one, and the encoder behind it."""
    if isinstance(encoder, nn.Sequential) and len(encoder) == 2 and isinstance(encoder[0], LogSpectrogram):
        return encoder[0], encoder[1]
    return None, encoder


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
        known = modality.mean is not None and modality.std is not None
        self.standardise(*(np.asarray(x) for x in ((modality.mean, modality.std) if known else (0.0, 1.0))))

    def standardise(self, mean: NDArray[Any], std: NDArray[Any]) -> None:
        """Set the statistics by which the input is standardised, one number or one per channel."""
        low, high = self._bounds
        scale = 255 / (high - low)
        values = {
            "factor": std * scale / self._unit,
            "offset": ((mean - low) * scale - self._centre) / self._unit,
        }
        for name, value in values.items():
            channels = np.broadcast_to(np.asarray(value, dtype=np.float32).reshape(-1, 1, 1), (3, 1, 1))
            getattr(self, name).copy_(torch.from_numpy(channels.copy()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C, H, W) to (..., 3, H, W)."""
        return x * self.factor + self.offset  # one channel becomes three
