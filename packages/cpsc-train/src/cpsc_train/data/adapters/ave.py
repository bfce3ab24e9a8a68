"""AVE: 28 events that can be seen and heard, in recordings of ten seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.families.clips import Clip, ClipConfig, Clips, Listed, find_clip
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
HEADER = "Category&VideoID&Quality&StartTime&EndTime"


@dataclass(frozen=True, kw_only=True)
class AVEConfig(ClipConfig, name="ave"):
    """Videos in ``AVE/ID.mp4``, or sound in ``audio/ID.wav`` and frames in ``frames/ID/``.

    The lists hold ``CLASS&ID&QUALITY&START&END``. They name some recordings more than once, a few in two parts. Each is
    used once: in test rather than validation, and in either rather than training. One row has an event of no length.
    What is left out is reported.
    """

    root: str = "data/AVE_Dataset"
    """Folder of the data set, with ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt``."""
    seconds: float = 10.0
    """Length of the sound; a shorter event is repeated, a longer one is cut."""
    frames: int = 4
    """Frames per recording, one from each of as many equal intervals of the event: the middle one in evaluation, a
    random one in training."""

    def load(self) -> Dataset:
        root = check_root(self.root)
        faults = Faults()
        names: set[str] = set()
        clips: list[Clip] = []
        for part, file in ((part, root / name) for part, name in LISTS.items()):
            rows = read_list(file, partial(_parse, file), faults, header=lambda line: line.strip() == HEADER)
            for label, name, start, end, number in rows:
                place = f"{file.name}:{number}"
                if name in names or start == end:
                    why = ", an event of no length" if start == end else ""
                    faults.dropped.append(f"{name} ({place}{why})")
                    continue
                names.add(name)
                row = Listed(name, CLASSES.index(label), part, place)
                sound = inside(root / "audio", f"{name}.wav", f"{file}:{number}")
                folder, videos = root / "frames" / name, [root / "AVE" / f"{name}.mp4"]
                clip = find_clip(self, row, faults, sound=sound, folder=folder, videos=videos)
                clips += (replace(one, start=start, end=end, length=SECONDS) for one in clip)
        return Clips(self, clips, CLASSES, faults)


def _parse(file: Place, line: str, number: int) -> tuple[str, str, int, int, int]:
    where = f"{file}:{number}"
    label, name, _, start, end = fields(line, "&", 5, where)
    if label not in CLASSES:
        raise DataError(f"{where}: {label!r} is not one of the 28 classes", "unknown class")
    if not start.isdecimal() or not end.isdecimal() or not int(start) <= int(end) <= SECONDS:
        raise DataError(
            f"{where}: start and end must be seconds, 0 ≤ start ≤ end ≤ 10, got {start}, {end}", "wrong time"
        )
    return label, name, int(start), int(end), number
