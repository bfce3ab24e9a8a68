"""Short recordings with sound and frames, the common part of CREMA-D, Kinetics-Sounds and AVE."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import check_modalities
from cpsc_train.data.families.stored import Stored, StoredConfig
from cpsc_train.data.faults import Faults
from cpsc_train.data.media.images import IMAGENET_MEAN, IMAGENET_STD, WHOLE, random_area
from cpsc_train.data.media.video import Frames, Pictures, Video, every, listed
from cpsc_train.data.modality import Modality, Spectrum
from cpsc_train.data.readers import FramesReader, Reader, SoundReader
from cpsc_train.data.storage.files import Place, read_list
from cpsc_train.data.storage.untrusted import CONTAINERS, inside
from cpsc_train.errors import DataError, UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MODALITIES = ("audio", "video")
RATE = 22_050
N_FFT = 512
HOP = 353


@dataclass(frozen=True, kw_only=True)
class ClipConfig(StoredConfig):
    """Options shared by data sets of short recordings."""

    DERIVED: ClassVar = ("audio", "frames")
    """Folders of sound and of frames in the layout of a derived copy."""

    modalities: tuple[str, ...] = MODALITIES
    """Both of audio, video."""
    seconds: float = 3.0
    """Length of the sound; a shorter one is repeated, a longer one is cut."""
    frames: int = 1
    """Frames per recording, one from each of as many equal intervals: the middle one in evaluation, a random one in
    training."""
    fps: float = 1.0
    """Frames per second of a video that are chosen from; a folder of frames is used as it is."""
    size: int = 224
    """Pixels of the side of a frame."""
    spectrogram: Literal["loader", "model"] = "loader"
    """Whether the spectrogram is computed by the reading processes, or by the model on its device."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, MODALITIES)
        for name in ("seconds", "frames", "fps", "size"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"data.{name} must be positive, got {getattr(self, name)}")

    def readers(self, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        known: dict[str, Reader] = {"audio": _sound_reader(self), "video": _frames_reader(self)}
        return {name: known[name] for name in modalities}


@dataclass(frozen=True)
class Clip:
    """One recording: a unique name, its class, its official part or ``""``, its sound and its frames."""

    name: str
    label: int
    part: str
    sound: Place
    frames: Frames
    start: float = 0.0
    end: float | None = None
    """The interval used is from `start` to `end` seconds, or to the end of the recording if `end` is None."""
    length: float = 1.0
    """Seconds of the recording, by which extracted images, which have no times, are placed."""


class Clips(Stored):
    """Sound as log spectrograms (1, 257, 1 + 22,050·seconds // 353), frames (3, size, size) or (frames, 3, size, size).

    All files of the `clips` exist; `groups` names the speaker of each, if known.
    """

    partly = ("video",)

    def __init__(
        self,
        config: ClipConfig,
        clips: Sequence[Clip],
        classes: Sequence[str],
        faults: Faults,
        *,
        groups: Sequence[str] | None = None,
    ) -> None:
        self._config, self.clips, self.classes, self.groups = config, clips, classes, groups
        self._sound, self._frames = _sound_reader(config), _frames_reader(config)
        known = {"audio": self._sound.modality, "video": self._frames.modality}
        super().__init__(config, clips, known, faults)

    def decode(self, modality: str, row: int, /) -> NDArray[Any]:
        """Return the waveform of the interval used, (samples,), or all frames of the recording, (n, h, w, 3)."""
        clip = self.clips[row]
        if modality == "video":
            pictures = [np.asarray(image) for image in clip.frames.at(every)]
            if len({picture.shape for picture in pictures}) > 1:
                raise DataError(f"{clip.name}: its frames are not all of one size", "wrong size")
            return np.stack(pictures)
        return self._sound.decode(clip.sound, clip.start, clip.end)

    def recipe(self, modality: str, /) -> dict[str, Any]:
        if modality == "video":
            return {"fps": self._config.fps}
        stretches = json.dumps([(clip.start, clip.end) for clip in self.clips]).encode()
        return {"rate": RATE, "seconds": self._config.seconds, "stretches": zlib.crc32(stretches)}

    def decoders(self, modality: str, /) -> Sequence[str]:
        """Return the packages that decode videos, or what was extracted from them."""
        if modality == "video":
            return sorted({"pillow" if isinstance(clip.frames, Pictures) else "av" for clip in self.clips})
        sounds = {"av" if clip.sound.suffix.lower() in CONTAINERS else "soundfile" for clip in self.clips}
        return sorted(sounds | {"scipy"})

    def present(self, modality: str, row: int, generator: np.random.Generator | None, /) -> NDArray[np.float32]:
        """Return the waveform, or frames: fixed and uncropped in evaluation, random with one crop in training."""
        if modality == "audio":
            return np.asarray(self.fetch(modality, row))
        pictures = self._chosen(row, self._frames.places(generator))
        view = WHOLE if generator is None else random_area(*pictures[0].size, generator)
        return self._frames.viewed(pictures, view)

    def inputs(self, modality: str, values: NDArray[Any], /) -> NDArray[Any]:
        return self._sound.inputs(values) if modality == "audio" else values

    def sources(self, row: int, /) -> Mapping[str, Place]:
        clip = self.clips[row]
        files: dict[str, Place] = {f"sound{clip.sound.suffix}": clip.sound} if "audio" in self.modalities else {}
        if "video" not in self.modalities:
            return files
        if isinstance(clip.frames, Video):
            return files | {f"video{clip.frames.path.suffix}": clip.frames.path}
        return files | {f"{k:05d}{path.suffix}": path for k, path in enumerate(clip.frames.files)}

    def _chosen(self, row: int, places: NDArray[np.float64]) -> list[Image]:
        """Return one frame of each of the equal intervals, at `places` in [0, 1) of it."""
        clip = self.clips[row]
        length = None if isinstance(clip.frames, Video) else clip.length
        choose = self._frames.choose(places, clip.start, clip.end, length)
        if not self.cached:
            return clip.frames.at(choose)
        from PIL import Image  # noqa: PLC0415  # an extra

        frames = self.fetch("video", row)
        return [Image.fromarray(np.asarray(frames[k])) for k in choose(len(frames))]


def _sound_reader(config: ClipConfig) -> SoundReader:
    samples, spectrum = round(config.seconds * RATE), Spectrum(N_FFT, HOP)
    later = spectrum if config.spectrogram == "model" else None
    shape = (1, N_FFT // 2 + 1, 1 + samples // HOP)
    return SoundReader(Modality(kind="sound", shape=shape, spectrum=later, rate=RATE), samples, spectrum)


def _frames_reader(config: ClipConfig) -> FramesReader:
    image = (3, config.size, config.size)
    shape = image if config.frames == 1 else (config.frames, *image)
    modality = Modality(kind="image", shape=shape, bounds=(0.0, 255.0), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return FramesReader(modality, config.fps)


@dataclass(frozen=True)
class Listed:
    """Entry of a list of recordings: name, label, part and line number."""

    name: str
    label: int
    part: str
    place: str


def read_lists(
    root: Place,
    lists: Mapping[str, str],
    parse: Callable[[str, str], tuple[str, int]],
    faults: Faults,
    header: str | None = None,
) -> list[Listed]:
    """Return the recordings in list files by part; `parse` returns name and label of a line, given file and number."""
    rows: list[Listed] = []
    for part, file in ((part, root / name) for part, name in lists.items()):

        def parse_row(line: str, number: int, file: Place = file, part: str = part) -> Listed:
            name, label = parse(line, f"{file}:{number}")
            inside(root, f"{name}.wav", f"{file}:{number}")
            return Listed(name, label, part, f"{file.name}:{number}")

        rows += read_list(file, parse_row, faults, header=lambda line: line.strip() == header)
    return rows


def find_clip(
    config: ClipConfig, row: Listed, faults: Faults, *, sound: Place, folder: Place, videos: Sequence[Place]
) -> Iterator[Clip]:
    """Yield a recording, with sound and frames extracted before rather than from the first of the `videos` there is.

    If a file of a modality in use is missing, nothing is yielded and a fault is added.
    """
    video = next((path for path in videos if path.is_file()), None)
    audio = sound if sound.is_file() else video
    pictures = listed(folder)
    if "audio" in config.modalities and audio is None:
        faults.add(row.name, DataError(f"{sound}: is missing", "missing"))
    elif "video" in config.modalities and not pictures and video is None:
        what, kind = ("holds no images", "zero frames") if folder.is_dir() else ("is missing", "missing")
        faults.add(row.name, DataError(f"{folder}: {what}", kind))
    else:
        frames: Frames = Pictures(pictures) if pictures or video is None else Video(video, config.fps)
        yield Clip(row.name, row.label, row.part, audio or folder, frames)
