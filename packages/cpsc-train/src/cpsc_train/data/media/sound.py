"""Reader of the sound of recordings and videos."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from cpsc_train.data.media.audio import Samples, refuse_long, refuse_rate, to_mono
from cpsc_train.data.media.container import LATE, Times, duration, open_container, streams
from cpsc_train.data.media.truncation import container_of, mp3_samples, refuse_truncated
from cpsc_train.data.storage.files import Place, read_bytes
from cpsc_train.data.storage.untrusted import CONTAINERS, SOUNDS
from cpsc_train.errors import DataError, needs, reason

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
