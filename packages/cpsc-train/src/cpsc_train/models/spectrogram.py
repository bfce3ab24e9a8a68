"""The log spectrogram of a waveform, computed where the model runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cpsc_train.data.dataset import Spectrum


class LogSpectrogram(nn.Module):
    """Standardised log(|STFT| + 1e−7), as the loader computes it, to within 1e−5 before standardisation.

    Parameters
    ----------
    spectrum
        Window and hop.
    """

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
        """Subtract a mean and divide by a standard deviation from now on."""
        self.mean.fill_(mean)
        self.deviation.fill_(deviation)

    def forward(self, waveform: Tensor) -> Tensor:
        """Map (B, n) to (B, 1, n_fft // 2 + 1, 1 + n // hop), in single precision also under autocast."""
        with torch.autocast(waveform.device.type, enabled=False):
            found = torch.stft(
                waveform.float(),
                self.spectrum.n_fft,
                self.spectrum.hop,
                window=self.window,
                center=True,
                pad_mode="reflect",
                return_complex=True,
            )
            return ((found.abs() + 1e-7).log()[:, None] - self.mean) / self.deviation
