"""Sound: samples of a WAV file, and their spectrogram."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.media.files import read_bytes
from cpsc_train.errors import UserError

Samples = NDArray[np.float32]


def read_wav(path: Path) -> tuple[Samples, int]:
    """Return the samples (n,) in [−1, 1], channels averaged, and the sampling rate in Hz, of a PCM file.

    Raises
    ------
    UserError
        If the file is missing, no WAV file of 8, 16, 24 or 32 bits, or has no samples.
    """
    held = read_bytes(path)
    try:
        with wave.open(io.BytesIO(held)) as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise UserError(f"{path}: is not a readable WAV file ({error or 'it ends too early'})") from None
    raw = raw[: len(raw) - len(raw) % (width * channels)]
    if not raw:
        raise UserError(f"{path}: holds no samples")
    if width == 1:
        values = np.frombuffer(raw, np.uint8).astype(np.float32) / 128 - 1
    elif width == 3:
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        values = padded.view("<i4")[:, 0].astype(np.float32) / 2**31
    else:
        values = np.frombuffer(raw, f"<i{width}").astype(np.float32) / 2 ** (8 * width - 1)
    return values.reshape(-1, channels).mean(1, dtype=np.float32), rate


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


def log_spectrogram(samples: Samples, *, n_fft: int, hop: int) -> Samples:
    """Return log(|STFT| + 1e−7) of samples (..., n), shape (..., n_fft // 2 + 1, 1 + n // hop).

    Frames are centred, the ends mirrored, the window is a periodic Hann window of `n_fft` samples: what librosa and
    ``torch.stft`` compute by default.
    """
    edge = [(0, 0)] * (samples.ndim - 1) + [(n_fft // 2, n_fft // 2)]
    padded = np.pad(samples, edge, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, -1)[..., ::hop, :]
    window = np.float32(0.5) - np.float32(0.5) * np.cos(2 * np.pi * np.arange(n_fft) / n_fft).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(frames * window, axis=-1)).swapaxes(-1, -2)
    return np.log(spectrum + 1e-7).astype(np.float32)
