"""CREMA-D: six emotions, spoken by 91 actors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.families.clips import Clip, ClipConfig, Clips, Places
from cpsc_train.data.faults import Faults, first_of_each
from cpsc_train.data.splits import by_group
from cpsc_train.data.storage.files import Place, check_root, fields, read_list
from cpsc_train.data.storage.untrusted import inside
from cpsc_train.errors import DataError, UserError

CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
FRAMES = ("Image-01-FPS", "Image")


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
    """``official``: as listed; all actors are in both lists. ``speaker``: a fifth of the actors is for test and a tenth
    for validation. ``stratified``: by the shares of the splits. The last two need no lists and take every recording."""
    speaker_seed: int = 0
    """Seed of which actors those are."""

    def load(self) -> Dataset:
        """Read the lists; sound and frames are read when they are needed."""
        root = check_root(self.root)
        faults = Faults()
        rows = self._listed(root, faults) if self.split == "official" else _found(root, faults)
        rows = first_of_each(rows, [clip for clip, *_ in rows], [place for *_, place in rows], faults)
        folder = next((root / name for name in FRAMES if (root / name).is_dir()), root / FRAMES[0])
        clips, parts = [], []
        for name, emotion, part, _ in rows:
            sound, video = root / "AudioWAV" / f"{name}.wav", root / "VideoFlash" / f"{name}.flv"
            media = Places([sound], folder / name, [video]).find(self, name, faults)
            if media is not None:
                clips.append(Clip(name, CLASSES.index(emotion), *media))
                parts.append(part)
        actors = [clip.name.partition("_")[0] for clip in clips]
        if self.split == "speaker":
            parts = by_group(actors, self.speaker_seed)
        return Clips(self, clips, CLASSES, None if self.split == "stratified" else parts, faults, groups=actors)

    def _listed(self, root: Place, faults: Faults) -> list[tuple[str, str, str, str]]:
        """Return name, emotion, part and place of each line."""
        found = []
        for part, name in (("train", self.train), ("test", self.test)):
            file = root / name
            if not file.is_file():
                raise UserError(
                    f"{file}: no such list; without it, divide the recordings yourself: --set data.split=speaker or "
                    "--set data.split=stratified"
                )

            def parse(line: str, number: int, file: Place = file, part: str = part) -> tuple[str, str, str, str]:
                where = f"{file}:{number}"
                clip, emotion = fields(line, ",", 2, where)
                if emotion not in CLASSES:
                    known = ", ".join(CLASSES)
                    raise DataError(f"{where}: emotion must be one of {known}, got {emotion!r}", "unknown class")
                inside(root / "AudioWAV", f"{clip}.wav", where)
                return clip, emotion, part, f"{file.name}:{number}"

            found += read_list(file, parse, faults, header=lambda line: line.strip() == "name,label")
        return found


def _found(root: Place, faults: Faults) -> list[tuple[str, str, str, str]]:
    """Return what the names of the sound files say."""
    folder = root / "AudioWAV"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = []
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav"):
        emotion = dict(enumerate(file.stem.split("_"))).get(2)
        if emotion in CLASSES:
            found.append((file.stem, emotion, "train", file.stem))
        else:
            faults.add(file.name, DataError(f"{file}: must be named ACTOR_SENTENCE_EMOTION_LEVEL.wav", "unknown class"))
    return found
