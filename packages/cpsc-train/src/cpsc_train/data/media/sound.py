"""The sound of a recording or of a video, as samples."""

from __future__ import annotations

import io

import numpy as np

from cpsc_train.data.media.audio import Samples, refuse_long, refuse_rate, to_mono
from cpsc_train.data.media.files import Place, read_bytes
from cpsc_train.data.media.video import SUFFIXES, decode_sound
from cpsc_train.errors import DataError, needs, reason

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
    if path.suffix.lower() in SUFFIXES:
        return decode_sound(path)
    with needs("soundfile", extra="audio"):
        import soundfile  # noqa: PLC0415  # an extra
    held = read_bytes(path)
    _refuse_cut(held, path)
    try:
        with soundfile.SoundFile(io.BytesIO(held)) as file:
            refuse_rate(int(file.samplerate), path)
            blocks = []
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):  # the header may lie about the rest
                blocks.append(block)
                refuse_long(sum(part.size for part in blocks), path)
            rate = int(file.samplerate)
    except DataError:
        raise
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: is not a readable sound file ({error.error_string})") from None
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise DataError(f"{path}: is not a readable sound file ({reason(error)})") from None
    if not blocks:
        raise DataError(f"{path}: holds no samples", "no samples")
    return to_mono(np.concatenate(blocks), path), rate


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
