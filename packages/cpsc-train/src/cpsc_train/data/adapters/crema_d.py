"""CREMA-D: six emotions, spoken by 91 actors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.media.clips import Clip, ClipConfig, Clips, refuse_repeated, rows_by_part
from cpsc_train.data.media.files import check_root, inside, read_rows
from cpsc_train.errors import UserError

CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
FRAMES = ("Image-01-FPS", "Image")


@dataclass(frozen=True, kw_only=True)
class CremaDConfig(ClipConfig, name="crema-d"):
    """Sound in ``AudioWAV/CLIP.wav``, frames in ``Image-01-FPS/CLIP/`` or ``Image/CLIP/``.

    The lists hold ``CLIP,EMOTION``; some copies have a header.
    """

    root: str = "data/crema-d"
    """Folder of the data set."""
    train: str = "train.csv"
    """List of the training recordings, in the folder."""
    test: str = "test.csv"
    """List of the test recordings, in the folder."""
    split: Literal["official", "speaker"] = "official"
    """``official``: as listed; all actors are in both lists. ``speaker``: a fifth of the actors is for test and a tenth
    for validation, whatever the lists say."""
    speaker_seed: int = 0
    """Seed of which actors those are."""

    def open(self) -> Dataset:
        """Read the lists; sound and frames are read when they are needed."""
        root = check_root(self.root)
        frames = next((root / name for name in FRAMES if (root / name).is_dir()), root / FRAMES[0])
        clips, parts = [], []
        for part, name in (("train", self.train), ("test", self.test)):
            for number, (clip, emotion) in _rows(root / name):
                if emotion not in CLASSES:
                    known = ", ".join(CLASSES)
                    raise UserError(f"{root / name}:{number}: emotion must be one of {known}, got {emotion!r}")
                audio = inside(root / "AudioWAV", f"{clip}.wav", root / name, number)
                clips.append(Clip(clip, CLASSES.index(emotion), audio, frames / clip))
                parts.append(part)
        refuse_repeated([clip.name for clip in clips], root / self.train)
        if self.split == "speaker":
            parts = _by_speaker([clip.name.partition("_")[0] for clip in clips], self.speaker_seed)
        return Clips(self, clips, CLASSES, rows_by_part(parts))


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    """Return the rows of a list, without the header that some copies have."""
    rows = read_rows(file, ",", 2)
    return rows[1:] if rows[0][1] == ["name", "label"] else rows


def _by_speaker(speakers: list[str], seed: int) -> list[str]:
    order = np.random.default_rng(seed).permutation(sorted(set(speakers)))
    tested, validated = -(-len(order) // 5), -(-len(order) // 10)
    part = dict.fromkeys(order[:tested], "test") | dict.fromkeys(order[tested : tested + validated], "validation")
    return [part.get(speaker, "train") for speaker in speakers]
