"""Kinetics-Sounds: 31 classes of Kinetics that can be seen and heard."""

from __future__ import annotations

from dataclasses import dataclass

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.media.clips import Clip, ClipConfig, Clips, refuse_repeated, rows_by_part
from cpsc_train.data.media.files import check_root, inside, read_rows
from cpsc_train.errors import UserError

CLASSES = (
    *("blowing nose", "blowing out candles", "bowling", "chopping wood", "dribbling basketball", "laughing"),
    *("mowing lawn", "playing accordion", "playing bagpipes", "playing bass guitar", "playing clarinet"),
    *("playing drums", "playing guitar", "playing harmonica", "playing keyboard", "playing organ", "playing piano"),
    *("playing saxophone", "playing trombone", "playing trumpet", "playing violin", "playing xylophone"),
    *("ripping paper", "shoveling snow", "shuffling cards", "singing", "stomping grapes", "tap dancing"),
    *("tapping guitar", "tapping pen", "tickling"),
)


@dataclass(frozen=True, kw_only=True)
class KineticsSoundsConfig(ClipConfig, name="kinetics-sounds"):
    """Sound in ``audio/CLIP.wav``, frames in ``frames/CLIP/``, lists of ``CLIP,SECONDS,LABEL``."""

    root: str = "data/kinetics-sounds"
    """Folder of the data set."""
    seconds: float = 10.0
    """Length of the sound; a shorter one is repeated, a longer one is cut."""
    frames: int = 3
    """Frames a recording: in evaluation the middle ones of as many equal stretches, in training any of each stretch."""
    train: str = "my_train.txt"
    """List of the training recordings, in the folder."""
    test: str = "my_test.txt"
    """List of the test recordings, in the folder."""

    def open(self) -> Dataset:
        """Read the lists; sound and frames are read when they are needed."""
        root = check_root(self.root)
        clips, parts = [], []
        for part, name in (("train", self.train), ("test", self.test)):
            file = root / name
            for number, (clip, _, label) in read_rows(file, ",", 3):
                if not label.isdecimal() or int(label) >= len(CLASSES):
                    raise UserError(f"{file}:{number}: label must lie in 0…{len(CLASSES) - 1}, got {label!r}")
                audio = inside(root / "audio", f"{clip}.wav", file, number)
                clips.append(Clip(clip, int(label), audio, root / "frames" / clip))
                parts.append(part)
        refuse_repeated([clip.name for clip in clips], root / self.train)
        return Clips(self, clips, CLASSES, rows_by_part(parts))
