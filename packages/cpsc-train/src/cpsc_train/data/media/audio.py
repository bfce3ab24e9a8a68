"""Computations on samples of sound: channels, rate, length, spectrogram."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.storage.files import Place
from cpsc_train.errors import DataError

Samples = NDArray[np.float32]

MOST = 2**27
"""Largest number of samples of a recording over all channels: 46 minutes in mono at 48 kHz, half a gigabyte."""
RATES = (1_000, 768_000)
"""Smallest and largest sampling rate in Hz."""


def to_mono(samples: Samples, path: Place) -> Samples:
    """Return the mean over the channels of (n, channels), clipped to [−1, 1].

    Raises DataError if a sample is not finite.
    """
    mean = samples.mean(1, dtype=np.float32)
    if not np.isfinite(mean).all():
        raise DataError(f"{path}: sample {int(np.flatnonzero(~np.isfinite(mean))[0])} is not a finite number")
    return np.asarray(np.clip(mean, -1, 1), dtype=np.float32)


def refuse_rate(rate: int, path: Place) -> None:
    """Refuse a rate outside `RATES`, with which resampling would take all memory."""
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{path}: must have {RATES[0]:,} to {RATES[1]:,} samples a second, got {rate:,}", "wrong rate")


def refuse_long(count: int, path: Place) -> None:
    """Refuse more than `MOST` samples."""
    if count > MOST:
        raise DataError(f"{path}: holds more than {MOST:,} samples: cut the recording", "too long")


def resample(samples: Samples, rate: int, wanted: int) -> Samples:
    """Return samples at another rate in Hz, by a polyphase filter."""
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly  # noqa: PLC0415  # slow to import, and seldom needed

    common = int(np.gcd(rate, wanted))
    return np.asarray(resample_poly(samples, wanted // common, rate // common), dtype=np.float32)


def tile(samples: Samples, length: int) -> Samples:
    """Return `length` samples: a shorter recording is repeated, a longer one is cut."""
    return np.tile(samples, -(-length // len(samples)))[:length]


def pooled_spectrogram(samples: NDArray[Any], *, bands: int, intervals: int, n_fft: int = 512) -> Samples:
    """Return the log spectrogram of samples (..., n), averaged to (..., bands, intervals) for any n of enough samples.

    `bands` divides ``n_fft // 2``, and `intervals` is at most n. The highest frequency is left out.

    Examples
    --------
    >>> pooled_spectrogram(np.zeros((2, 48_000), np.float32), bands=64, intervals=64).shape
    (2, 64, 64)
    """
    count = samples.shape[-1]
    each = -(-count // (intervals * n_fft // 2))  # spectra per interval, so that windows overlap by half
    hop = count // (intervals * each)
    spectra = log_spectrogram(samples, n_fft=n_fft, hop=hop)[..., : n_fft // 2, : intervals * each]
    pooled = spectra.reshape(*samples.shape[:-1], bands, -1, intervals, each).mean((-3, -1))
    return np.asarray(pooled, dtype=np.float32)


def log_spectrogram(samples: NDArray[Any], *, n_fft: int, hop: int) -> Samples:
    """Return log(|STFT| + 1e−7) of samples (..., n), shape (..., n_fft // 2 + 1, 1 + n // hop).

    Frames are centred, the ends are mirrored, and the window is a periodic Hann window of `n_fft` samples, as in the
    defaults of librosa and ``torch.stft``. O(n log(n_fft) n_fft / hop).
    """
    edge = [(0, 0)] * (samples.ndim - 1) + [(n_fft // 2, n_fft // 2)]
    padded = np.pad(samples, edge, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, -1)[..., ::hop, :]
    window = np.float32(0.5) - np.float32(0.5) * np.cos(2 * np.pi * np.arange(n_fft) / n_fft).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(frames * window, axis=-1)).swapaxes(-1, -2)
    return np.log(spectrum + 1e-7).astype(np.float32)
