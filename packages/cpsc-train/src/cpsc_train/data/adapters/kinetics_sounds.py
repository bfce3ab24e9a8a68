"""Kinetics-Sounds: 31 classes of Kinetics that can be seen and heard."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.families.clips import Clip, ClipConfig, Clips, find_clip, read_lists
from cpsc_train.data.faults import Faults, first_of_each
from cpsc_train.data.storage.files import Place, check_root, fields
from cpsc_train.errors import DataError

CLASSES = (
    *("blowing nose", "blowing out candles", "bowling", "chopping wood", "dribbling basketball", "laughing"),
    *("mowing lawn", "playing accordion", "playing bagpipes", "playing bass guitar", "playing clarinet"),
    *("playing drums", "playing guitar", "playing harmonica", "playing keyboard", "playing organ", "playing piano"),
    *("playing saxophone", "playing trombone", "playing trumpet", "playing violin", "playing xylophone"),
    *("ripping paper", "shoveling snow", "shuffling cards", "singing", "stomping grapes", "tap dancing"),
    *("tapping guitar", "tapping pen", "tickling"),
)
PARTS = ("train", "val", "validate", "test")


@dataclass(frozen=True, kw_only=True)
class KineticsSoundsConfig(ClipConfig, name="kinetics-sounds"):
    """Videos in ``CLASS/CLIP.mp4``, or sound in ``audio/CLIP.wav`` and frames in ``frames/CLIP/``.

    Lists of ``CLIP,SECONDS,LABEL``, or separated by blanks with the label last. Recordings are matched by video and
    first second, since lists contain ``ID_000058_000068`` or ``ID_58``. Folders of classes are compared with the
    labels.
    """

    root: str = "data/kinetics-sounds"
    """Folder of the data set."""
    seconds: float = 10.0
    """Length of the sound; a shorter one is repeated, a longer one is cut."""
    frames: int = 3
    """Frames per recording, one from each of as many equal intervals: the middle one in evaluation, a random one in
    training."""
    train: str = "my_train.txt"
    """List of the training recordings, in the folder."""
    test: str = "my_test.txt"
    """List of the test recordings, in the folder."""

    def load(self) -> Dataset:
        root = check_root(self.root)
        faults = Faults()
        rows = read_lists(root, {"train": self.train, "test": self.test}, _parse, faults)
        rows = first_of_each(rows, faults, _key)
        videos = _videos(root)
        sounds, frames = ({_key(path.stem): path for path in _inner(root / name)} for name in ("audio", "frames"))
        clips: list[Clip] = []
        for row in rows:
            key = _key(row.name)
            sound = sounds.get(key, root / "audio" / f"{row.name}.wav")
            folder = frames.get(key, root / "frames" / row.name)
            clips += find_clip(self, row, faults, sound=sound, folder=folder, videos=videos.get(key, []))
        _compare_classes({clip.name: clip.label for clip in clips}, videos, faults)
        return Clips(self, clips, CLASSES, faults)


def _parse(line: str, where: str) -> tuple[str, int]:
    words = line.split()
    if "," in line:
        name, _, label = fields(line, ",", 3, where)
    elif len(words) in (2, 3):
        name, label = words[0], words[-1]
    else:
        name, _, label = fields(line, None, 3, where)
    if not label.isdecimal() or int(label) >= len(CLASSES):
        raise DataError(f"{where}: label must lie in 0…{len(CLASSES) - 1}, got {label!r}", "unknown class")
    return name, int(label)


def _key(name: str) -> str:
    """Return video and first second of a recording, in one form."""
    match = re.fullmatch(r"(.{11})_(\d+)(?:_\d+)?", name)
    return f"{match[1]}_{int(match[2])}" if match else name


def _inner(folder: Place) -> Sequence[Place]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _videos(root: Place) -> Mapping[str, list[Place]]:
    """Return the videos of each recording in folders of classes, which may lie in the folder of a part."""
    videos: dict[str, list[Place]] = {}
    folders = [inner for top in (root, *(root / part for part in PARTS)) for inner in _inner(top) if inner.is_dir()]
    for folder in folders:
        if folder.name not in {"audio", "frames", *PARTS}:
            for path in _inner(folder):
                if path.suffix.lower() in {".mp4", ".mkv", ".webm"}:
                    videos.setdefault(_key(path.stem), []).append(path)
    return videos


def _compare_classes(labels: Mapping[str, int], videos: Mapping[str, list[Place]], faults: Faults) -> None:
    for sample, label in labels.items():
        for path in videos.get(_key(sample), []):
            name = _class_of(path)
            if name != CLASSES[label]:
                kind = "wrong class" if name in CLASSES else "unknown class"
                error = f"{path}: lies in a folder of {name!r}, and its label {label} is {CLASSES[label]!r}"
                faults.add(sample, DataError(error, kind))
    others = {_class_of(path) for paths in videos.values() for path in paths} - set(CLASSES)
    if others:
        faults.note(f"folders of videos that are none of the 31 classes: {', '.join(sorted(others))}", "unknown class")


def _class_of(path: Place) -> str:
    return path.parent.name.replace("_", " ")
