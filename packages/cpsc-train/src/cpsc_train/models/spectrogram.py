"""Log spectrogram of a waveform, computed on the device of the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cpsc_train.data.modality import Spectrum


class LogSpectrogram(nn.Module):
    """Standardised log(|STFT| + 1e−7), as the loader computes it, to within 1e−5 before standardisation."""

    window: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, spectrum: Spectrum) -> None:
        super().__init__()
        self.spectrum = spectrum
        self.register_buffer("window", torch.hann_window(spectrum.n_fft), persistent=False)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def standardise(self, mean: float, deviation: float) -> None:
        """Set the mean and standard deviation of the standardisation."""
        self.mean.fill_(mean)
        self.deviation.fill_(deviation)

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
            return ((spectrum.abs() + 1e-7).log()[:, None] - self.mean) / self.deviation


def split_spectrogram(encoder: nn.Module) -> tuple[LogSpectrogram | None, nn.Module]:
    """Return the spectrogram in front of an encoder of waveforms, if there is one, and the encoder behind it."""
    if isinstance(encoder, nn.Sequential) and len(encoder) == 2 and isinstance(encoder[0], LogSpectrogram):
        return encoder[0], encoder[1]
    return None, encoder
