"""CREMA-D: six emotions, spoken by 91 actors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.families.clips import Clip, ClipConfig, Clips, Listed, find_clip, read_lists
from cpsc_train.data.faults import Faults, first_of_each
from cpsc_train.data.splits import by_group
from cpsc_train.data.storage.files import Place, check_root, fields
from cpsc_train.errors import DataError, UserError

CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
FRAMES = ("Image-01-FPS", "Image")


@dataclass(frozen=True, kw_only=True)
class CremaDConfig(ClipConfig, name="crema-d"):
    """Sound in ``AudioWAV/CLIP.wav``; frames out of ``VideoFlash/CLIP.flv``, or in ``Image-01-FPS`` or ``Image``.

    The lists hold ``CLIP,EMOTION``; some copies have a header.
    """

    DERIVED: ClassVar = ("AudioWAV", FRAMES[0])
    licence = "ODbL 1.0, its contents DbCL 1.0"

    root: str = "data/crema-d"
    """Folder of the data set."""
    train: str = "train.csv"
    """List of the training recordings, in the folder."""
    test: str = "test.csv"
    """List of the test recordings, in the folder."""
    split: Literal["official", "speaker", "stratified"] = "official"
    """``official``: as listed; all actors are in both lists. ``speaker``: a fifth of the actors for test, a tenth for
    validation. ``stratified``: by the fractions of the splits. The last two need no lists and use all recordings."""

    def load(self) -> Dataset:
        root = check_root(self.root)
        faults = Faults()
        rows = self._listed(root, faults) if self.split == "official" else _named(root, faults)
        rows = first_of_each(rows, faults)
        folder = next((root / name for name in FRAMES if (root / name).is_dir()), root / FRAMES[0])
        clips: list[Clip] = []
        for row in rows:
            sound, video = root / "AudioWAV" / f"{row.name}.wav", root / "VideoFlash" / f"{row.name}.flv"
            clips += find_clip(self, row, faults, sound=sound, folder=folder / row.name, videos=[video])
        actors = [clip.name.partition("_")[0] for clip in clips]
        if self.split == "speaker":
            clips = [replace(clip, part=part) for clip, part in zip(clips, by_group(actors, 0), strict=True)]
        return Clips(self, clips, CLASSES, faults, groups=actors)

    def _listed(self, root: Place, faults: Faults) -> list[Listed]:
        for name in (self.train, self.test):
            if not (root / name).is_file():
                raise UserError(
                    f"{root / name}: no such list; without it, divide the recordings yourself: --set "
                    "data.split=speaker or --set data.split=stratified"
                )
        return read_lists(root, {"train": self.train, "test": self.test}, _parse, faults, header="name,label")


def _parse(line: str, where: str) -> tuple[str, int]:
    name, emotion = fields(line, ",", 2, where)
    if emotion not in CLASSES:
        raise DataError(f"{where}: emotion must be one of {', '.join(CLASSES)}, got {emotion!r}", "unknown class")
    return name, CLASSES.index(emotion)


def _named(root: Place, faults: Faults) -> list[Listed]:
    folder = root / "AudioWAV"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    rows = []
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav"):
        _, _, emotion, *_ = *file.stem.split("_"), "", "", ""
        if emotion in CLASSES:
            rows.append(Listed(file.stem, CLASSES.index(emotion), "", file.stem))
        else:
            faults.add(file.name, DataError(f"{file}: must be named ACTOR_SENTENCE_EMOTION_LEVEL.wav", "unknown class"))
    return rows
