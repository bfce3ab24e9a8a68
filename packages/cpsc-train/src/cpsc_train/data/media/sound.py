"""Sound of recordings and videos: reading, channels, rate, length, spectrogram."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.media.container import LATE, Times, duration, open_container, streams
from cpsc_train.data.media.truncation import container_of, mp3_samples, refuse_truncated
from cpsc_train.data.storage.files import Place, read_bytes
from cpsc_train.data.storage.untrusted import CONTAINERS, SOUNDS
from cpsc_train.errors import DataError, needs, reason

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


BLOCK = 2**18
VIDEOS = {kind for kind, _ in CONTAINERS.values()}


def read_sound(path: Place) -> tuple[Samples, int]:
    """Return the samples (n,) in [−1, 1], averaged over channels, and the sampling rate in Hz.

    Reads WAV (also RF64, RIFX and W64), AIFF, AU, CAF, FLAC, Ogg and MP3, and the first sound stream of a video. Raises
    UserError if the file is missing, damaged, truncated or has no samples, or the library that reads it is not
    installed.
    """
    if path.suffix.lower() in CONTAINERS:
        return _read_video(path)
    with needs("soundfile", extra="audio"):
        import soundfile  # noqa: PLC0415  # an extra
    content = read_bytes(path)
    if (kind := container_of(content)) in VIDEOS:
        raise DataError(f"{path}: is not a readable sound file: is {kind}: name it accordingly")
    refuse_truncated(content, path)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.format not in SOUNDS:
                raise DataError(f"{path}: is not a readable sound file (format {file.format})")  # noqa: TRY301
            rate = int(file.samplerate)
            refuse_rate(rate, path)
            blocks = _read_blocks(file, path)
            if file.format == "MP3":
                _refuse_estimate(content, sum(map(len, blocks)), path)
    except DataError:
        raise
    except soundfile.LibsndfileError as error:
        why = error.error_string or "cut off or damaged"
        raise DataError(f"{path}: is not a readable sound file ({why})") from None
    except (RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"{path}: is not a readable sound file ({reason(error)})") from None
    if not blocks:
        raise DataError(f"{path}: holds no samples", "no samples")
    return to_mono(np.concatenate(blocks), path), rate


def _refuse_estimate(content: bytes, count: int, path: Place) -> None:
    """Refuse an MP3 file of which libsndfile reads a part, since it estimates the frames that no header counts."""
    samples = mp3_samples(content)
    if count < 0.98 * samples - 4608:  # four frames: delay of the encoder, and padding
        why = f"libsndfile reads {count:,} of {samples:,} samples, since no header counts them"
        raise DataError(f"{path}: {why}: write it anew with ffmpeg -c copy", "truncated")


def _read_blocks(file: Any, path: Place) -> list[Samples]:
    """Return the samples of an open file in blocks, since its header can state any length."""
    blocks: list[Samples] = []
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
        refuse_long(sum(part.size for part in blocks), path)
    return blocks


def _read_video(path: Place) -> tuple[Samples, int]:
    """Return the first sound stream of a video, silent until it begins if frames begin earlier."""
    with open_container(path) as file:
        frames, stream = streams(file)
        if stream is None:
            raise DataError(f"{path}: has no sound", "no sound")
        rate = int(stream.rate or 0)
        refuse_rate(rate, path)
        import av  # noqa: PLC0415  # an extra

        resampler = av.AudioResampler(format="flt", rate=rate)  # one sample format, the channels as they are
        blocks: list[Samples] = []
        total = 0
        times = Times(path)
        for packet in file.demux([stream] if frames is None else [frames, stream]):
            times.add(packet)
            for frame in packet.decode() if packet.stream.index == stream.index else ():
                for block in resampler.resample(frame):
                    values = block.to_ndarray().reshape(-1, len(block.layout.channels))
                    blocks.append(values.astype(np.float32, copy=False))
                    total += values.size
                    refuse_long(total, path)
        span = times.span(stream, duration(file))
    if not total or span is None:
        raise DataError(f"{path}: has sound of no length", "no samples")
    silence = round((span.start - span.zero) * rate) if span.start - span.zero > LATE else 0
    refuse_long(total + silence, path)
    return np.concatenate([np.zeros(silence, np.float32), to_mono(np.concatenate(blocks), path)]), rate
