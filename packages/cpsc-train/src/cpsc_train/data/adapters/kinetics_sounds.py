"""Kinetics-Sounds: 31 classes of Kinetics that can be seen and heard."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.families.clips import Clip, ClipConfig, Clips, Places
from cpsc_train.data.faults import Faults, first_of_each
from cpsc_train.data.storage.files import Place, check_root, fields, read_list
from cpsc_train.data.storage.untrusted import inside
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

    Lists of ``CLIP,SECONDS,LABEL``, or with blanks and the label last. A recording is found by the video and the second
    it begins at, since lists write ``ID_000058_000068`` or ``ID_58``. Folders of classes are held against the labels.
    """

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

    def load(self) -> Dataset:
        """Read the lists; sound and frames are read when they are needed."""
        root = check_root(self.root)
        faults = Faults()
        rows: list[tuple[str, int, str, str]] = []
        for part, name in (("train", self.train), ("test", self.test)):
            file = root / name

            def parse(line: str, number: int, file: Place = file, part: str = part) -> tuple[str, int, str, str]:
                clip, label = _parsed(line, f"{file}:{number}")
                inside(root / "audio", f"{clip}.wav", f"{file}:{number}")
                return clip, label, part, f"{file.name}:{number}"

            rows += read_list(file, parse, faults)
        rows = first_of_each(rows, [_key(clip) for clip, *_ in rows], [place for *_, place in rows], faults)
        videos = _videos(root)
        sounds, frames = ({_key(path.stem): path for path in _inner(root / name)} for name in ("audio", "frames"))
        clips, parts = [], []
        for clip, label, part, _ in rows:
            key = _key(clip)
            sound = sounds.get(key, root / "audio" / f"{clip}.wav")
            folder = frames.get(key, root / "frames" / clip)
            media = Places([sound], folder, videos.get(key, [])).find(self, clip, faults)
            if media is not None:
                clips.append(Clip(clip, label, *media))
                parts.append(part)
        _compare_classes({clip.name: clip.label for clip in clips}, videos, faults)
        return Clips(self, clips, CLASSES, parts, faults)


def _parsed(line: str, where: str) -> tuple[str, int]:
    if "," in line:
        clip, _, label = fields(line, ",", 3, where)
    else:
        clip, label = (
            (line.split(maxsplit=1)[0], line.rsplit(maxsplit=1)[-1])
            if len(line.split()) in (2, 3)
            else fields(line, None, 3, where)
        )
    if not label.isdecimal() or int(label) >= len(CLASSES):
        raise DataError(f"{where}: label must lie in 0…{len(CLASSES) - 1}, got {label!r}", "unknown class")
    return clip, int(label)


def _key(clip: str) -> str:
    """Return video and first second, however they are written."""
    found = re.fullmatch(r"(.{11})_(\d+)(?:_\d+)?", clip)
    return f"{found[1]}_{int(found[2])}" if found else clip


def _inner(folder: Place) -> Sequence[Place]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _videos(root: Place) -> Mapping[str, list[Place]]:
    """Return the videos of each recording, out of folders named as a class is, or of those in a folder of a part."""
    found: dict[str, list[Place]] = {}
    folders = [inner for top in (root, *(root / part for part in PARTS)) for inner in _inner(top) if inner.is_dir()]
    for folder in folders:
        if folder.name not in {"audio", "frames", *PARTS}:
            for path in _inner(folder):
                if path.suffix.lower() in {".mp4", ".mkv", ".webm"}:
                    found.setdefault(_key(path.stem), []).append(path)
    return found


def _compare_classes(labels: Mapping[str, int], videos: Mapping[str, list[Place]], faults: Faults) -> None:
    """Hold the folders that videos lie in against the names of their labels; some lists number other classes."""
    for sample, label in labels.items():
        for path in videos.get(_key(sample), []):
            name = path.parent.name.replace("_", " ")
            if name != CLASSES[label]:
                kind = "wrong class" if name in CLASSES else "unknown class"
                told = f"{path}: lies in a folder of {name!r}, and its label {label} is {CLASSES[label]!r}"
                faults.add(sample, DataError(told, kind))
    others = {path.parent.name.replace("_", " ") for paths in videos.values() for path in paths} - set(CLASSES)
    if others:
        faults.note(f"folders of videos that are none of the 31 classes: {', '.join(sorted(others))}", "unknown class")
