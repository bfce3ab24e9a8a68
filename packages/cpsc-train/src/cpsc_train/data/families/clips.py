"""Short recordings with sound and frames: what CREMA-D, Kinetics-Sounds and AVE have in common."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Modality, Spectrum, check_modalities
from cpsc_train.data.families.stored import Stored, StoredConfig
from cpsc_train.data.faults import Faults
from cpsc_train.data.media.audio import log_spectrogram, resample, tile
from cpsc_train.data.media.images import IMAGENET_DEVIATION, IMAGENET_MEAN, WHOLE, random_area
from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.media.video import Frames, Pictures, Video, every, listed
from cpsc_train.data.splits import rows_by_part
from cpsc_train.data.storage.files import Place
from cpsc_train.data.storage.untrusted import CONTAINERS
from cpsc_train.errors import DataError, UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MODALITIES = ("audio", "video")
RATE = 22_050
N_FFT = 512
HOP = 353


@dataclass(frozen=True, kw_only=True)
class ClipConfig(StoredConfig):
    """What the data sets of short recordings share."""

    DERIVED: ClassVar = ("audio", "frames")
    """Folders of sound and of frames in the layout of a derived copy."""

    modalities: tuple[str, ...] = MODALITIES
    """Both of audio, video."""
    seconds: float = 3.0
    """Length of the sound; a shorter one is repeated, a longer one is cut."""
    frames: int = 1
    """Frames a recording: in evaluation the middle ones of as many equal stretches, in training any of each stretch."""
    fps: float = 1.0
    """Frames a second of a video that are chosen from; a folder of frames is taken as it is."""
    size: int = 224
    """Pixels of the side of a frame."""
    spectrogram: Literal["loader", "model"] = "loader"
    """Where the spectrogram is computed: by the processes that read, or by the model, on its device."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, MODALITIES)
        for name in ("seconds", "frames", "fps", "size"):
            if not 0 < getattr(self, name) < float("inf"):
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
    sound
        A sound file, or a video.
    frames
        A video, or images.
    start, end
        The stretch that counts, in seconds; all of it where `end` is ``None``.
    length
        Seconds of the recording, by which images that were taken out are placed; they have no times of their own.
    """

    name: str
    label: int
    sound: Place
    frames: Frames
    start: float = 0.0
    end: float | None = None
    length: float = 1.0


class Clips(Stored):
    """Sound as log spectrograms (1, 257, 1 + 22,050·seconds // 353), frames (3, size, size) or (frames, 3, size, size).

    Parameters
    ----------
    config
        Sizes.
    clips
        The recordings, all of whose files are there.
    classes
        Class names.
    parts
        The part of each recording in the official division, where there is one.
    faults
        What was found on the way.
    groups
        Who each recording is of.
    """

    def __init__(
        self,
        config: ClipConfig,
        clips: Sequence[Clip],
        classes: Sequence[str],
        parts: Sequence[str] | None,
        faults: Faults,
        *,
        groups: Sequence[str] | None = None,
    ) -> None:
        self._config = config
        self._clips = clips
        self.classes = classes
        self.ids = [clip.name for clip in clips]
        self.labels = np.array([clip.label for clip in clips], dtype=np.int64)
        self.parts = None if parts is None else rows_by_part(parts)
        self.faults, self.notes, self.groups = faults.found, faults.notes, groups
        self._samples = round(config.seconds * RATE)
        image = (3, config.size, config.size)
        known = {
            "audio": Modality(
                kind="sound",
                shape=(1, N_FFT // 2 + 1, 1 + self._samples // HOP),
                spectrum=Spectrum(N_FFT, HOP) if config.spectrogram == "model" else None,
            ),
            "video": Modality(
                kind="image",
                shape=image if config.frames == 1 else (config.frames, *image),
                bounds=(0.0, 255.0),
                mean=IMAGENET_MEAN,
                deviation=IMAGENET_DEVIATION,
            ),
        }
        self.modalities = {name: known[name] for name in config.modalities}
        self.decoded = config.modalities
        self.partly = ("video",)
        self.use_cache(config.cache)

    def clip(self, row: int) -> Clip:
        """Return where a recording is."""
        return self._clips[row]

    def decode(self, modality: str, row: int, /) -> NDArray[Any]:
        """Return the waveform of the stretch that counts, (samples,), or all frames of the recording, (n, h, w, 3)."""
        clip = self._clips[row]
        if modality == "video":
            pictures = [np.asarray(image) for image in clip.frames.at(every)]
            if len({picture.shape for picture in pictures}) > 1:
                raise DataError(f"{clip.name}: its frames are not all of one size", "wrong size")
            return np.stack(pictures)
        samples, rate = read_sound(clip.sound)
        stretch = samples[int(clip.start * rate) : None if clip.end is None else int(np.ceil(clip.end * rate))]
        if not len(stretch):
            told = f"has {len(samples) / rate:.1f} s of sound, and what counts begins at {clip.start:.1f} s"
            raise DataError(f"{clip.sound}: {told}", "wrong time")
        return tile(np.clip(resample(stretch, rate, RATE), -1, 1), self._samples)

    def recipe(self, modality: str, /) -> dict[str, Any]:
        """Return what `decode` depends on."""
        if modality == "video":
            return {"fps": self._config.fps}
        stretches = json.dumps([(clip.start, clip.end) for clip in self._clips]).encode()
        return {"rate": RATE, "seconds": self._config.seconds, "stretches": zlib.crc32(stretches)}

    def decoders(self, modality: str, /) -> Sequence[str]:
        """Return the packages that decode what there is, videos or what was taken out of them."""
        if modality == "video":
            return sorted({"pillow" if isinstance(clip.frames, Pictures) else "av" for clip in self._clips})
        sounds = {"av" if clip.sound.suffix.lower() in CONTAINERS else "soundfile" for clip in self._clips}
        return sorted(sounds | {"scipy"})

    def present(self, modality: str, row: int, generator: np.random.Generator | None, /) -> NDArray[np.float32]:
        """Return the waveform, or frames: in evaluation always the same ones, whole; in training all cut alike."""
        if modality == "audio":
            return np.asarray(self.held(modality, row))
        count = self._config.frames
        places = np.full(count, 0.5) if generator is None else generator.random(count)
        pictures = self._chosen(row, places)
        view = WHOLE if generator is None else random_area(*pictures[0].size, generator)
        shown = np.stack([view.of(picture, self._config.size) for picture in pictures])
        return shown[0] if count == 1 else shown

    def inputs(self, modality: str, values: NDArray[Any], /) -> NDArray[Any]:
        """Return spectrograms of waveforms, unless the model computes them."""
        if modality == "video" or self._config.spectrogram == "model":
            return values
        return log_spectrogram(values, n_fft=N_FFT, hop=HOP)[:, None]

    def sources(self, row: int, /) -> Mapping[str, Place]:
        """Return the sound, and the video or its frames."""
        clip = self._clips[row]
        found: dict[str, Place] = {f"sound{clip.sound.suffix}": clip.sound} if "audio" in self.modalities else {}
        if "video" in self.modalities and isinstance(clip.frames, Video):
            found[f"video{clip.frames.path.suffix}"] = clip.frames.path
        if "video" in self.modalities and isinstance(clip.frames, Pictures):
            found |= {f"{k:05d}{path.suffix}": path for k, path in enumerate(clip.frames.files)}
        return found

    def _chosen(self, row: int, places: NDArray[np.float64]) -> list[Image]:
        """Return one frame of each of the equal stretches, at `places` in [0, 1) of it."""
        clip = self._clips[row]

        def choose(count: int) -> list[int]:
            share = (np.arange(len(places)) + places) / len(places)
            at = share * count
            if clip.end is not None:
                rate = self._config.fps if isinstance(clip.frames, Video) else count / clip.length
                at = (clip.start + share * (clip.end - clip.start)) * rate
            return [min(int(place), count - 1) for place in at]

        if not self.cached:
            return clip.frames.at(choose)
        from PIL import Image  # noqa: PLC0415  # an extra

        held = self.held("video", row)
        return [Image.fromarray(np.asarray(held[k])) for k in choose(len(held))]


@dataclass(frozen=True)
class Places:
    """Where the media of a recording may lie: sound files and videos in order of preference, and a folder of frames."""

    sounds: Sequence[Place]
    folder: Place
    videos: Sequence[Place]

    def find(self, config: ClipConfig, sample: str, faults: Faults) -> tuple[Place, Frames] | None:
        """Return what there is: sound and frames that somebody took out, else those of a video.

        Where something that `config` wants is not there, that is a fault of `sample`, and ``None`` is returned.
        """
        video = next((path for path in self.videos if path.is_file()), None)
        sound = next((path for path in self.sounds if path.is_file()), video)
        pictures = listed(self.folder)
        if "audio" in config.modalities and sound is None:
            faults.add(sample, DataError(f"{[*self.sounds, *self.videos][0]}: is missing", "missing"))
            return None
        if "video" in config.modalities and not pictures and video is None:
            told = ("holds no images", "zero frames") if self.folder.is_dir() else ("is missing", "missing")
            faults.add(sample, DataError(f"{self.folder}: {told[0]}", told[1]))
            return None
        frames: Frames = Pictures(pictures) if pictures or video is None else Video(video, config.fps)
        return sound or self.folder, frames
