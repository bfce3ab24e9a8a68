"""AVE: 28 events that can be seen and heard, in recordings of ten seconds."""

from __future__ import annotations

from dataclasses import dataclass

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.media.clips import Clip, ClipConfig, Clips, rows_by_part
from cpsc_train.data.media.files import check_root, inside, read_rows
from cpsc_train.errors import UserError

CLASSES = (
    *("Accordion", "Acoustic guitar", "Baby cry, infant cry", "Banjo", "Bark", "Bus", "Cat", "Chainsaw"),
    *("Church bell", "Clock", "Female speech, woman speaking", "Fixed-wing aircraft, airplane", "Flute"),
    *("Frying (food)", "Goat", "Helicopter", "Horse", "Male speech, man speaking", "Mandolin", "Motorcycle"),
    *("Race car, auto racing", "Rodents, rats, mice", "Shofar", "Toilet flush", "Train horn", "Truck", "Ukulele"),
    "Violin, fiddle",
)
SECONDS = 10.0
LISTS = {"test": "testSet.txt", "validation": "valSet.txt", "train": "trainSet.txt"}


@dataclass(frozen=True, kw_only=True)
class AVEConfig(ClipConfig, name="ave"):
    """Sound in ``audio/ID.wav``, frames in ``frames/ID/``, lists of ``CLASS&ID&QUALITY&START&END``.

    The lists name some recordings more than once, a few in two parts. Each is taken once: for test rather than
    validation, and for either rather than training. What is left out is told.
    """

    root: str = "data/AVE_Dataset"
    """Folder of the data set, with ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt``."""
    seconds: float = 10.0
    """Length of the sound; a shorter stretch is repeated, a longer one is cut."""
    frames: int = 4
    """Frames a recording, out of the event: in evaluation the middle ones of as many equal stretches, in training any
    of each stretch."""

    def open(self) -> Dataset:
        """Read the lists; sound and frames are read when they are needed."""
        root = check_root(self.root)
        clips: dict[str, Clip] = {}
        parts: list[str] = []
        dropped: list[str] = []
        for part, name in LISTS.items():
            file = root / name
            for number, (label, clip, _, start, end) in read_rows(file, "&", 5):
                if label not in CLASSES:
                    raise UserError(f"{file}:{number}: {label!r} is not one of the 28 classes")
                if not start.isdecimal() or not end.isdecimal() or not int(start) < int(end) <= SECONDS:
                    raise UserError(
                        f"{file}:{number}: start and end must be seconds, 0 ≤ start < end ≤ 10, got {start}, {end}"
                    )
                if clip in clips:
                    dropped.append(f"{clip} ({name}:{number})")
                    continue
                audio = inside(root / "audio", f"{clip}.wav", file, number)
                stretch = (int(start) / SECONDS, int(end) / SECONDS)
                clips[clip] = Clip(clip, CLASSES.index(label), audio, root / "frames" / clip, *stretch)
                parts.append(part)
        found = Clips(self, list(clips.values()), CLASSES, rows_by_part(parts))
        found.dropped = tuple(dropped)
        return found
