"""AVLetters: spoken letters as mel-frequency cepstral coefficients and as video of the lips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Literal

import numpy as np

from cpsc_train.data.dataset import DataConfig, check_modalities
from cpsc_train.data.families.arrays import Arrays, View
from cpsc_train.data.families.series import column, resampled
from cpsc_train.data.modality import Modality
from cpsc_train.data.readers import Reader, SeriesReader
from cpsc_train.data.storage.npz import read_npz
from cpsc_train.errors import UserError

MODALITIES = ("audio", "lips")
FILE = "avletters.npz"
COEFFICIENTS = 26
PIXELS = (30, 40)
"""Height and width of a frame."""
SPEAKERS = 10
REPETITIONS = 3


@dataclass(frozen=True, kw_only=True)
class AVLettersConfig(DataConfig, name="avletters"):
    """Letters A to Z by ten speakers, three times each; 26 MFCC every 20 ms, and lips in 30×40 pixels.

    The folder holds ``avletters.npz``, one row per utterance.
    """

    modalities: tuple[str, ...] = MODALITIES
    """Both of audio, lips."""
    root: str = "data/avletters"
    """Folder of the file."""
    split: Literal["repetition", "speaker"] = "repetition"
    """Test rows: ``repetition``, the third repetition of each speaker; ``speaker``, some speakers, so that they are not
    exchangeable with calibration rows."""
    test_speakers: tuple[int, ...] = (7, 8, 9)
    """Test speakers if ``split`` is ``speaker``, numbered from 0."""
    audio_steps: int = 24
    """Steps of the audio after linear resampling; utterances have 23 to 79."""
    frames: int = 12
    """Frames of the video after linear resampling; utterances have 12 to 40."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, MODALITIES)
        for name in ("audio_steps", "frames"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name} must be at least 1, got {getattr(self, name)}")
        chosen = set(self.test_speakers)
        if not chosen < set(range(SPEAKERS)) or not chosen:
            raise UserError(f"data.test_speakers must be some of 0…{SPEAKERS - 1}, got {self.test_speakers}")

    def readers(self, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        """Return readers of utterances of any length: MFCC (steps, 26), lips (frames, 30, 40)."""
        shapes = {"audio": (COEFFICIENTS,), "lips": PIXELS}
        return {name: SeriesReader(modality, shapes[name]) for name, modality in modalities.items()}

    def load(self) -> Arrays:
        """Read the file, and resample the utterances."""
        file = Path(self.root) / FILE
        arrays = read_npz(file)
        letter = column(arrays, "letter", file, low=0, high=len(ascii_uppercase) - 1)
        speaker = column(arrays, "speaker", file, low=0, high=SPEAKERS - 1)
        repetition = column(arrays, "repetition", file, low=1, high=REPETITIONS)
        rows = len(letter)
        audio = Modality(kind="vector", shape=(self.audio_steps, COEFFICIENTS))
        lips = Modality(kind="image", shape=(self.frames, *PIXELS), bounds=(0.0, 255.0))
        known = {"audio": ("mfcc", (COEFFICIENTS,), audio), "lips": ("lips", PIXELS, lips)}
        views = {}
        for name in self.modalities:
            array, shape, modality = known[name]
            values = resampled(arrays, array, file, rows=rows, shape=shape, length=modality.shape[0])
            views[name] = View(modality, values, f"{file}: {array}")
        tested = repetition == REPETITIONS if self.split == "repetition" else np.isin(speaker, self.test_speakers)
        return Arrays(
            [f"{ascii_uppercase[k]}{r}_s{s}" for k, r, s in zip(letter, repetition, speaker, strict=True)],
            letter,
            tuple(ascii_uppercase),
            views,
            parts={"train": np.flatnonzero(~tested), "test": np.flatnonzero(tested)},
            groups=[f"speaker {number}" for number in speaker],
        )
