"""CREMA-D: six emotions, spoken by 91 actors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.families.clips import Clip, ClipConfig, Clips, find_media
from cpsc_train.data.faults import Faults, first_of_each
from cpsc_train.data.splits import by_group
from cpsc_train.data.storage.files import Place, check_root, fields, read_list
from cpsc_train.data.storage.untrusted import inside
from cpsc_train.errors import DataError, UserError

CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
FRAMES = ("Image-01-FPS", "Image")
Row = tuple[str, str, str, str]
"""Name, emotion, part, and place in a list."""


@dataclass(frozen=True, kw_only=True)
class CremaDConfig(ClipConfig, name="crema-d"):
    """Sound in ``AudioWAV/CLIP.wav``; frames out of ``VideoFlash/CLIP.flv``, or in ``Image-01-FPS`` or ``Image``.

    The lists hold ``CLIP,EMOTION``; some copies have a header.
    """

    DERIVED: ClassVar = ("AudioWAV", FRAMES[0])

    root: str = "data/crema-d"
    """Folder of the data set."""
    train: str = "train.csv"
    """List of the training recordings, in the folder."""
    test: str = "test.csv"
    """List of the test recordings, in the folder."""
    split: Literal["official", "speaker", "stratified"] = "official"
    """``official``: as listed; all actors are in both lists. ``speaker``: a fifth of the actors for test, a tenth for
    validation. ``stratified``: by the fractions of the splits. The last two need no lists and use all recordings."""
    speaker_seed: int = 0
    """Seed of the choice of actors."""

    def load(self) -> Dataset:
        """Read the lists; sound and frames are read on demand."""
        root = check_root(self.root)
        faults = Faults()
        rows = self._listed(root, faults) if self.split == "official" else _named(root, faults)
        rows = first_of_each(rows, [name for name, *_ in rows], [place for *_, place in rows], faults)
        folder = next((root / name for name in FRAMES if (root / name).is_dir()), root / FRAMES[0])
        clips, parts = [], []
        for name, emotion, part, _ in rows:
            sound, video = root / "AudioWAV" / f"{name}.wav", root / "VideoFlash" / f"{name}.flv"
            media = find_media(self, name, faults, sound=sound, folder=folder / name, videos=[video])
            if media is not None:
                clips.append(Clip(name, CLASSES.index(emotion), *media))
                parts.append(part)
        actors = [clip.name.partition("_")[0] for clip in clips]
        if self.split == "speaker":
            parts = by_group(actors, self.speaker_seed)
        return Clips(self, clips, CLASSES, None if self.split == "stratified" else parts, faults, groups=actors)

    def _listed(self, root: Place, faults: Faults) -> list[Row]:
        rows = []
        for part, file in (("train", root / self.train), ("test", root / self.test)):
            if not file.is_file():
                raise UserError(
                    f"{file}: no such list; without it, divide the recordings yourself: --set data.split=speaker or "
                    "--set data.split=stratified"
                )

            def parse(line: str, number: int, file: Place = file, part: str = part) -> Row:
                where = f"{file}:{number}"
                name, emotion = fields(line, ",", 2, where)
                if emotion not in CLASSES:
                    known = ", ".join(CLASSES)
                    raise DataError(f"{where}: emotion must be one of {known}, got {emotion!r}", "unknown class")
                inside(root / "AudioWAV", f"{name}.wav", where)
                return name, emotion, part, f"{file.name}:{number}"

            rows += read_list(file, parse, faults, header=lambda line: line.strip() == "name,label")
        return rows


def _named(root: Place, faults: Faults) -> list[Row]:
    """Return the rows that the names of the sound files define."""
    folder = root / "AudioWAV"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    rows = []
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav"):
        _, _, emotion, *_ = *file.stem.split("_"), "", "", ""
        if emotion in CLASSES:
            rows.append((file.stem, emotion, "train", file.stem))
        else:
            faults.add(file.name, DataError(f"{file}: must be named ACTOR_SENTENCE_EMOTION_LEVEL.wav", "unknown class"))
    return rows
