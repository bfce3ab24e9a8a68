"""Extraction of sound and frames from videos, in the layout of derived copies."""

from __future__ import annotations

import io
import shutil
from functools import partial
from pathlib import Path

import numpy as np

from cpsc_train.data.dataset import DataConfig, unfiltered
from cpsc_train.data.families.clips import RATE, Clip, ClipConfig, Clips
from cpsc_train.data.media.audio import Samples, resample
from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.media.video import Video, every
from cpsc_train.data.preparation.work import Advance, refuse_small, silent, total
from cpsc_train.data.storage.files import recorded
from cpsc_train.errors import UserError, reason
from cpsc_train.lock import locked
from cpsc_train.writing import make_folder, refuse_link, write

QUALITY = 95
"""JPEG quality of the frames."""
RECORDING = 150_000
"""Approximate bytes of an extracted recording."""


def extract(config: DataConfig, out: Path, *, workers: int = 0, advance: Advance = silent) -> int:
    """Extract sound and frames of videos, resuming where an earlier call stopped. Return the number of recordings.

    Sound becomes 16-bit WAV, mono, 22,050 Hz; frames become JPEG. Lists are copied.

    Raises
    ------
    UserError
        As `DataConfig.open`; if the data set has no recordings, or the folder cannot be written.
    """
    with recorded() as lists:
        kept = config.open()
    dataset = unfiltered(kept)
    if not isinstance(dataset, Clips) or not isinstance(config, ClipConfig):
        raise UserError(f"{config.name}: only recordings with sound and frames can be taken apart")
    refuse_small(out, len(kept), lambda _: RECORDING)
    make_folder(out)
    row_of = {sample: row for row, sample in enumerate(dataset.ids)}
    clips = [dataset.clips[row_of[sample]] for sample in kept.ids]
    with locked(out, busy="taking recordings apart into it"):
        done = total(partial(_extract, out, config, clips), kept.ids, workers, advance)
        for place in lists:
            write(out / place.name, place.read_bytes())
    return done


def _extract(out: Path, config: ClipConfig, clips: list[Clip], number: int) -> int:
    """Write sound and frames of one recording, the folder of the frames last."""
    clip = clips[number]
    sound, frames = out / config.DERIVED[0] / f"{clip.name}.wav", out / config.DERIVED[1] / clip.name
    refuse_link(sound, below=out)
    refuse_link(frames, below=out)
    try:
        if "audio" in config.modalities and not sound.is_file():
            _write_sound(sound, *read_sound(clip.sound))
        if "video" in config.modalities and not frames.is_dir():
            partial_folder = frames.with_name(f"{clip.name}.partial")
            shutil.rmtree(partial_folder, ignore_errors=True)
            partial_folder.mkdir(parents=True)
            images = clip.frames.at(every)
            if clip.end is not None and isinstance(clip.frames, Video):  # images are placed by their number
                images += images[-1:] * (round(clip.length * clip.frames.fps) - len(images))
            for k, image in enumerate(images):
                image.save(partial_folder / f"{k:05d}.jpg", quality=QUALITY)
            partial_folder.replace(frames)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({reason(error)})") from None
    return 1


def _write_sound(path: Path, samples: Samples, rate: int) -> None:
    import soundfile  # noqa: PLC0415  # an extra

    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = io.BytesIO()
    soundfile.write(encoded, np.clip(resample(samples, rate, RATE), -1, 1), RATE, subtype="PCM_16", format="WAV")
    write(path, encoded.getvalue())
