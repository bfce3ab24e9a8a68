"""Short recordings with sound and frames: what CREMA-D, Kinetics-Sounds and AVE have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, Dataset, Modality, check_modalities
from cpsc_train.data.media.audio import log_spectrogram, read_wav, resample, tile
from cpsc_train.data.media.images import IMAGENET_DEVIATION, IMAGENET_MEAN, WHOLE, random_area, read_image
from cpsc_train.errors import UserError

Rows = NDArray[np.int64]
MODALITIES = ("audio", "video")
RATE = 22_050
N_FFT = 512
HOP = 353
IMAGES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, kw_only=True)
class ClipConfig(DataConfig):
    """What the data sets of short recordings share."""

    modalities: tuple[str, ...] = MODALITIES
    """Both of audio, video."""
    root: str
    """Folder of the data set."""
    seconds: float = 3.0
    """Length of the sound; a shorter one is repeated, a longer one is cut."""
    frames: int = 1
    """Frames a recording: in evaluation the middle ones of as many equal stretches, in training any of each stretch."""
    size: int = 224
    """Pixels of the side of a frame."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, MODALITIES)
        for name in ("seconds", "frames", "size"):
            if getattr(self, name) <= 0:
                raise UserError(f"data.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class Clip:
    """One recording.

    Parameters
    ----------
    name
        Unique.
    label
        Its class.
    audio
        A WAV file.
    frames
        A folder of images, in the order of their names.
    start, end
        The stretch that counts, as shares of the recording.
    """

    name: str
    label: int
    audio: Path
    frames: Path
    start: float = 0.0
    end: float = 1.0


class Clips(Dataset):
    """Log spectrograms (1, 257, 1 + 22,050·seconds // 353) beside frames (3, size, size), or (frames, 3, size, size).

    Parameters
    ----------
    config
        Sizes.
    clips
        The recordings. All their files must be there.
    classes
        Class names.
    parts
        The official division, where there is one.

    Raises
    ------
    UserError
        If a file is missing: how many are, and which is the first.
    """

    def __init__(
        self,
        config: ClipConfig,
        clips: Sequence[Clip],
        classes: Sequence[str],
        parts: dict[str, Rows] | None = None,
    ) -> None:
        self._config = config
        self._clips = clips
        self.classes = classes
        self.ids = [clip.name for clip in clips]
        self.labels = np.array([clip.label for clip in clips], dtype=np.int64)
        self.parts = parts
        self._samples = round(config.seconds * RATE)
        image = (3, config.size, config.size)
        known = {
            "audio": Modality(kind="image", shape=(1, N_FFT // 2 + 1, 1 + self._samples // HOP)),
            "video": Modality(
                kind="image",
                shape=image if config.frames == 1 else (config.frames, *image),
                bounds=(0.0, 255.0),
                mean=IMAGENET_MEAN,
                deviation=IMAGENET_DEVIATION,
            ),
        }
        self.modalities = {name: known[name] for name in config.modalities}
        self._frames = {clip.name: _listed(clip.frames) for clip in clips} if "video" in config.modalities else {}
        self._refuse_missing()

    def read(self, modality: str, rows: Rows, /) -> NDArray[np.float32]:
        """Return spectrograms, or the frames that evaluation looks at: always the same ones, whole."""
        if modality == "audio":
            return np.stack([self._spectrogram(self._clips[row]) for row in rows])
        middle = np.full(self._config.frames, 0.5)
        pictures = [[read_image(path) for path in self._chosen(self._clips[row], middle)] for row in rows]
        return self._stacked([[WHOLE.of(picture, self._config.size) for picture in of] for of in pictures])

    def augmented(self, modality: str, rows: Rows, generators: Sequence[np.random.Generator], /) -> NDArray[np.float32]:
        """Return spectrograms as they are, or a random frame of each stretch, all cut and mirrored in the same way."""
        if modality == "audio":
            return self.read(modality, rows)
        found = []
        for row, generator in zip(rows, generators, strict=True):
            places = generator.random(self._config.frames)
            pictures = [read_image(path) for path in self._chosen(self._clips[row], places)]
            view = random_area(pictures[0], generator)
            found.append([view.of(picture, self._config.size) for picture in pictures])
        return self._stacked(found)

    def _spectrogram(self, clip: Clip) -> NDArray[np.float32]:
        samples, rate = read_wav(clip.audio)
        samples = samples[int(clip.start * len(samples)) : max(1, int(np.ceil(clip.end * len(samples))))]
        samples = tile(np.clip(resample(samples, rate, RATE), -1, 1), self._samples)
        return log_spectrogram(samples, n_fft=N_FFT, hop=HOP)[None]

    def _chosen(self, clip: Clip, places: NDArray[np.float64]) -> list[Path]:
        """Return one frame of each of the equal stretches, at `places` in [0, 1) of it."""
        files = self._frames[clip.name]
        share = (np.arange(len(places)) + places) / len(places)
        at = (clip.start + share * (clip.end - clip.start)) * len(files)
        return [files[min(int(place), len(files) - 1)] for place in at]

    def _stacked(self, pictures: list[list[NDArray[np.float32]]]) -> NDArray[np.float32]:
        stacked = np.stack([np.stack(of) for of in pictures])
        return stacked[:, 0] if self._config.frames == 1 else stacked

    def _refuse_missing(self) -> None:
        missing: list[Path] = []
        if "audio" in self.modalities:
            missing += [clip.audio for clip in self._clips if not clip.audio.is_file()]
        missing += [clip.frames for clip in self._clips if clip.name in self._frames and not self._frames[clip.name]]
        if missing:
            raise UserError(
                f"{missing[0]}: is missing or empty, the first of {len(missing)} files or folders of frames that the "
                f"{len(self._clips)} recordings of the lists need and that are not there"
            )


def rows_by_part(names: Sequence[str]) -> dict[str, Rows]:
    """Return the rows of each part, given the part of each row."""
    held = np.array(names)
    return {str(part): np.flatnonzero(held == part) for part in dict.fromkeys(names)}


def refuse_repeated(ids: Sequence[str], file: Path) -> None:
    """Refuse a name that occurs twice."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise UserError(f"{file}: {name!r} is listed twice")
        seen.add(name)


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES)
