"""AVE: 28 events that can be seen and heard, in recordings of ten seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.families.clips import Clip, ClipConfig, Clips, Places
from cpsc_train.data.faults import Faults
from cpsc_train.data.storage.files import Place, check_root, fields, read_list
from cpsc_train.data.storage.untrusted import inside
from cpsc_train.errors import DataError

CLASSES = (
    *("Accordion", "Acoustic guitar", "Baby cry, infant cry", "Banjo", "Bark", "Bus", "Cat", "Chainsaw"),
    *("Church bell", "Clock", "Female speech, woman speaking", "Fixed-wing aircraft, airplane", "Flute"),
    *("Frying (food)", "Goat", "Helicopter", "Horse", "Male speech, man speaking", "Mandolin", "Motorcycle"),
    *("Race car, auto racing", "Rodents, rats, mice", "Shofar", "Toilet flush", "Train horn", "Truck", "Ukulele"),
    "Violin, fiddle",
)
SECONDS = 10.0
LISTS = {"test": "testSet.txt", "validation": "valSet.txt", "train": "trainSet.txt"}
Row = tuple[str, str, int, int, int]
HEADER = "Category&VideoID&Quality&StartTime&EndTime"


@dataclass(frozen=True, kw_only=True)
class AVEConfig(ClipConfig, name="ave"):
    """Videos in ``AVE/ID.mp4``, or sound in ``audio/ID.wav`` and frames in ``frames/ID/``.

    The lists hold ``CLASS&ID&QUALITY&START&END``. They name some recordings more than once, a few in two parts. Each is
    taken once: for test rather than validation, and for either rather than training. One row has an event of no length.
    What is left out is told.
    """

    root: str = "data/AVE_Dataset"
    """Folder of the data set, with ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt``."""
    seconds: float = 10.0
    """Length of the sound; a shorter stretch is repeated, a longer one is cut."""
    frames: int = 4
    """Frames a recording, out of the event: in evaluation the middle ones of as many equal stretches, in training any
    of each stretch."""

    def load(self) -> Dataset:
        """Read the lists; sound and frames are read when they are needed."""
        root = check_root(self.root)
        faults = Faults()
        clips: dict[str, Clip] = {}
        seen: set[str] = set()
        parts: list[str] = []
        dropped: list[str] = []
        for part, name in LISTS.items():
            file = root / name
            rows = read_list(file, partial(_parsed, file), faults, header=lambda line: line.strip() == HEADER)
            for label, clip, start, end, number in rows:
                if clip in seen or start == end:
                    dropped.append(f"{clip} ({name}:{number}{', an event of no length' if start == end else ''})")
                    continue
                seen.add(clip)
                sound = inside(root / "audio", f"{clip}.wav", f"{file}:{number}")
                video = root / "AVE" / f"{clip}.mp4"
                media = Places([sound], root / "frames" / clip, [video]).find(self, clip, faults)
                if media is not None:
                    clips[clip] = Clip(clip, CLASSES.index(label), *media, start, end, SECONDS)
                    parts.append(part)
        found = Clips(self, list(clips.values()), CLASSES, parts, faults)
        found.dropped = tuple(dropped)
        return found


def _parsed(file: Place, line: str, number: int) -> Row:
    where = f"{file}:{number}"
    label, clip, _, start, end = fields(line, "&", 5, where)
    if label not in CLASSES:
        raise DataError(f"{where}: {label!r} is not one of the 28 classes", "unknown class")
    if not start.isdecimal() or not end.isdecimal() or not int(start) <= int(end) <= SECONDS:
        raise DataError(
            f"{where}: start and end must be seconds, 0 ≤ start ≤ end ≤ 10, got {start}, {end}", "wrong time"
        )
    return label, clip, int(start), int(end), number
