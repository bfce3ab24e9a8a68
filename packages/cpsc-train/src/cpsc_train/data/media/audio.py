"""Sound: the samples of a recording or of a video, and their spectrogram."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.media.files import Place, read_bytes
from cpsc_train.errors import DataError, UserError, reason

Samples = NDArray[np.float32]

MOST = 2**27
"""Samples of a recording, channels counted, at most: 46 minutes in mono at 48 kHz, half a gigabyte."""
BLOCK = 2**18
UNKNOWN = {0, 2**31 - 1, 2**32 - 1}
"""Lengths that a program writes into the header of a stream whose end it does not know."""


def read_sound(path: Place) -> tuple[Samples, int]:
    """Return the samples (n,) in [−1, 1], channels averaged, and the sampling rate in Hz.

    WAV, FLAC, Ogg, MP3 and what else libsndfile reads, and the sound of a video.

    Raises
    ------
    UserError
        If the file is missing, damaged, cut off or has no samples, or the library that reads it is not installed.
    """
    from cpsc_train.data.media.video import SUFFIXES, decode_sound  # noqa: PLC0415  # reads videos, whose sound this is

    if path.suffix.lower() in SUFFIXES:
        return decode_sound(path)
    try:
        import soundfile  # noqa: PLC0415  # an extra
    except ImportError:
        raise UserError('soundfile is not installed: pip install "cpsc-train[audio]"') from None
    held = read_bytes(path)
    _refuse_cut(held, path)
    try:
        with soundfile.SoundFile(io.BytesIO(held)) as file:
            blocks = []
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):  # the header may lie about the rest
                blocks.append(block)
                refuse_long(sum(part.size for part in blocks), path)
            rate = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: is not a readable sound file ({error.error_string})") from None
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise DataError(f"{path}: is not a readable sound file ({reason(error)})") from None
    if not blocks:
        raise DataError(f"{path}: holds no samples", "no samples")
    return to_mono(np.concatenate(blocks), path), rate


def to_mono(samples: Samples, path: Place) -> Samples:
    """Return the mean over the channels of (n, channels), in [−1, 1].

    Raises
    ------
    DataError
        If a sample is not a number.
    """
    mixed = samples.mean(1, dtype=np.float32)
    if not np.isfinite(mixed).all():
        raise DataError(f"{path}: sample {int(np.flatnonzero(~np.isfinite(mixed))[0])} is not a finite number")
    return np.asarray(np.clip(mixed, -1, 1), dtype=np.float32)


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


def log_spectrogram(samples: NDArray[Any], *, n_fft: int, hop: int) -> Samples:
    """Return log(|STFT| + 1e−7) of samples (..., n), shape (..., n_fft // 2 + 1, 1 + n // hop).

    Frames are centred, the ends mirrored, the window is a periodic Hann window of `n_fft` samples: what librosa and
    ``torch.stft`` compute by default. O(n log(n_fft) n_fft / hop).
    """
    edge = [(0, 0)] * (samples.ndim - 1) + [(n_fft // 2, n_fft // 2)]
    padded = np.pad(samples, edge, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, -1)[..., ::hop, :]
    window = np.float32(0.5) - np.float32(0.5) * np.cos(2 * np.pi * np.arange(n_fft) / n_fft).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(frames * window, axis=-1)).swapaxes(-1, -2)
    return np.log(spectrum + 1e-7).astype(np.float32)


def _refuse_cut(held: bytes, path: Place) -> None:
    """Refuse a WAV file that ends before its samples do, which libsndfile reads without a word."""
    if held[:4] != b"RIFF" or held[8:12] != b"WAVE":
        return
    place = 12
    while place + 8 <= len(held):
        size = int.from_bytes(held[place + 4 : place + 8], "little")
        if held[place : place + 4] == b"data":
            if size not in UNKNOWN and size > len(held) - place - 8:
                left = len(held) - place - 8
                raise DataError(f"{path}: is cut off: {left:,} of {size:,} bytes of sound are there", "truncated")
            return
        place += 8 + size + size % 2
