"""Taking sound and frames out of videos, in the layout of derived copies."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpsc_train.data.dataset import DataConfig, whole_of
from cpsc_train.data.families.clips import RATE, ClipConfig, Clips
from cpsc_train.data.media.audio import Samples, resample
from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.media.video import Video, every
from cpsc_train.data.preparation.work import Advance, nothing, refuse_small, total
from cpsc_train.data.storage.files import recorded
from cpsc_train.errors import UserError, reason
from cpsc_train.runs.lock import held
from cpsc_train.writing import make_folder, refuse_link, write

QUALITY = 95
"""Of the JPEG files that frames become."""
RECORDING = 150_000
"""Bytes that a recording takes, about."""


def extract(config: DataConfig, out: Path, *, workers: int = 0, advance: Advance = nothing) -> int:
    """Take sound and frames out of videos, in the layout of derived copies; goes on where it was stopped.

    Sound becomes WAV of 16 bits, mono, 22,050 Hz; frames become JPEG. Lists are copied. Return how many recordings.

    Raises
    ------
    UserError
        As `DataConfig.open`; if the data set has no recordings, or the folder cannot be written.
    """
    with recorded() as lists:
        dataset = config.open()
    whole = whole_of(dataset)
    if not isinstance(whole, Clips) or not isinstance(config, ClipConfig):
        raise UserError(f"{config.name}: only recordings with sound and frames can be taken apart")
    refuse_small(out, RECORDING * len(dataset))
    make_folder(out)
    kept = frozenset(dataset.ids)
    rows = tuple(row for row, sample in enumerate(whole.ids) if sample in kept)
    names = [whole.ids[row] for row in rows]
    with held(out, busy="taking recordings apart into it"):
        done = total(_Extraction(out, whole, rows, *config.DERIVED), names, workers, advance)
        for place in lists:
            write(out / place.name, place.read_bytes())
    return done


@dataclass(frozen=True)
class _Extraction:
    """Writes sound and frames of one recording, the folder of the frames last."""

    out: Path
    dataset: Clips
    rows: tuple[int, ...]
    sound: str
    frames: str

    def __call__(self, number: int) -> int:
        row = self.rows[number]
        name = self.dataset.ids[row]
        sound, frames = self.out / self.sound / f"{name}.wav", self.out / self.frames / name
        refuse_link(sound, below=self.out)
        refuse_link(frames, below=self.out)
        clip = self.dataset.clip(row)
        try:
            if "audio" in self.dataset.modalities and not sound.is_file():
                _write_sound(sound, *read_sound(clip.sound))
            if "video" in self.dataset.modalities and not frames.is_dir():
                partial = frames.with_name(f"{name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                images = clip.frames.at(every)
                if clip.end is not None and isinstance(clip.frames, Video):  # images are placed by their number
                    images += images[-1:] * (round(clip.length * clip.frames.fps) - len(images))
                for k, image in enumerate(images):
                    image.save(partial / f"{k:05d}.jpg", quality=QUALITY)
                partial.replace(frames)
        except OSError as error:
            raise UserError(f"{self.out}: cannot be written ({reason(error)})") from None
        return 1


def _write_sound(path: Path, samples: Samples, rate: int) -> None:
    import soundfile  # noqa: PLC0415  # an extra

    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = io.BytesIO()
    soundfile.write(encoded, np.clip(resample(samples, rate, RATE), -1, 1), RATE, subtype="PCM_16", format="WAV")
    write(path, encoded.getvalue())
