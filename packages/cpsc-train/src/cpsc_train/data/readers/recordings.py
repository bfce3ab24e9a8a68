"""Readers of sound, and of the frames of videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.media.images import WHOLE, View
from cpsc_train.data.media.sound import log_spectrogram, pooled_spectrogram, read_sound, resample, tile
from cpsc_train.data.media.video import Choose, Frames, Pictures, Video, listed
from cpsc_train.data.readers.base import Reader
from cpsc_train.data.storage.files import Place
from cpsc_train.data.storage.untrusted import CONTAINERS
from cpsc_train.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from cpsc_train.data.modality import Modality, Spectrum


class SoundReader(Reader):
    """Reader of sound files, of waveforms (samples,), and of pairs of a waveform and its rate in Hz.

    A shorter recording is repeated, a longer one is cut. The inputs are log spectrograms, unless the model computes
    them.

    - `modality`: properties of the input; its rate is that of a waveform without a rate of its own.
    - `samples`: length of a waveform.
    - `spectrum`: the log spectrogram. If None, one that is averaged to the shape of the modality, for any number of
      samples.
    """

    def __init__(self, modality: Modality, samples: int, spectrum: Spectrum | None) -> None:
        super().__init__(modality)
        self._samples, self._spectrum = samples, spectrum
        if modality.rate is None:
            raise ValueError("modality must have a rate")
        self._rate = modality.rate

    @property
    def accepts(self) -> str:
        return f"a sound file, a waveform of shape (samples,) at {self._rate:,} Hz, or a pair (waveform, rate)"

    @property
    def values_shape(self) -> tuple[int, ...]:
        """Shape of a waveform."""
        return (self._samples,)

    def array(self, given: object) -> NDArray[Any]:
        """Return a waveform; that of a pair, at the rate of the modality."""
        if not isinstance(given, tuple) or len(given) != 2:
            return super().array(given)
        waveform, rate = super().array(given[0]), given[1]
        if not isinstance(rate, int | np.integer) or rate <= 0 or waveform.ndim != 1:
            raise DataError(f"must be {self.accepts}, got a pair of shape {waveform.shape} and {rate!r}", "wrong form")
        return self._fitted(waveform, int(rate))

    def decode(self, file: Place, start: float = 0.0, end: float | None = None) -> NDArray[np.float32]:
        """Return the waveform from `start` to `end` seconds, (samples,)."""
        samples, rate = read_sound(file)
        used = samples[int(start * rate) : None if end is None else int(np.ceil(end * rate))]
        if not len(used):
            got = f"has {len(samples) / rate:.1f} s of sound, but the sample begins at {start:.1f} s"
            raise DataError(f"{file}: {got}", "wrong time")
        return self._fitted(used, rate)

    def present(self, content: NDArray[Any]) -> NDArray[np.float32]:
        """Return a waveform of the length that the model receives."""
        if content.ndim != 1 or not len(content):
            raise DataError(f"must be {self.accepts}, got shape {content.shape}", "wrong size")
        return content if content.shape == self.values_shape else self._fitted(content, self._rate)

    def inputs(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.modality.spectrum is not None:
            return values
        if self._spectrum is None:
            _, bands, intervals = self.modality.shape
            return pooled_spectrogram(values, bands=bands, intervals=intervals)[:, None]
        return log_spectrogram(values, n_fft=self._spectrum.n_fft, hop=self._spectrum.hop)[:, None]

    def _fitted(self, waveform: NDArray[Any], rate: int) -> NDArray[np.float32]:
        resampled = resample(np.asarray(waveform, dtype=np.float32), rate, self._rate)
        return tile(np.clip(resampled, -1, 1), self._samples)


class FramesReader(Reader):
    """Reader of frames: of a video, a folder of images or an image, or arrays (frames, height, width, 3).

    One frame is taken from each of equal intervals: the middle one in evaluation, a random one in training.

    - `modality`: properties of the input, (3, size, size) or (frames, 3, size, size).
    - `fps`: frames per second of a video that are chosen from.
    """

    def __init__(self, modality: Modality, fps: float) -> None:
        super().__init__(modality)
        self._fps = fps
        self._count = 1 if len(modality.shape) == 3 else modality.shape[0]

    @property
    def accepts(self) -> str:
        images = "an image of shape (height, width, 3) or frames of shape (frames, height, width, 3)"
        return f"a video, an image file, a folder of images, {images}"

    def array(self, given: object) -> NDArray[Any]:
        return super().array(given.convert("RGB") if hasattr(given, "convert") else given)

    def decode(self, file: Place) -> NDArray[Any]:
        """Return the middle frames of a video, a folder of images or an image, (frames, h, w, 3) uint8."""
        folder = file.is_dir()
        files = listed(file) if folder else (file,)
        if not files:
            raise DataError(f"{file}: holds no images", "zero frames")
        video = not folder and file.suffix.lower() in CONTAINERS
        frames: Frames = Video(file, self._fps) if video else Pictures(files)
        pictures = [np.asarray(picture) for picture in frames.at(self.choose(self.places(None)))]
        if len({picture.shape for picture in pictures}) > 1:
            raise DataError(f"{file}: its frames are not all of one size", "wrong size")
        return np.stack(pictures)

    def present(self, content: NDArray[Any]) -> NDArray[np.float32]:
        """Return the middle frames of a video or of an array of frames."""
        frames = content[None] if content.ndim == 3 else content
        if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise DataError(f"must be {self.accepts}, got shape {content.shape}", "wrong size")
        chosen = frames if len(frames) == self._count else frames[self.choose(self.places(None))(len(frames))]
        return self._arranged([WHOLE.of_array(frame, self.modality.shape[-1]) for frame in chosen])

    def places(self, generator: np.random.Generator | None) -> NDArray[np.float64]:
        """Return the place in [0, 1) of each frame in its interval: the middle, or a random one."""
        return np.full(self._count, 0.5) if generator is None else generator.random(self._count)

    def choose(
        self, places: NDArray[np.float64], start: float = 0.0, end: float | None = None, length: float | None = None
    ) -> Choose:
        """Return the choice of frames at `places` in the equal intervals from `start` to `end` seconds.

        If `end` is None, all frames are divided into intervals. `length` in seconds is that of all frames; if None,
        there are `fps` a second.
        """

        def choose(count: int) -> list[int]:
            fractions = (np.arange(len(places)) + places) / len(places)
            at = fractions * count
            if end is not None:
                rate = self._fps if length is None else count / length
                at = (start + fractions * (end - start)) * rate
            return [min(int(place), count - 1) for place in at]

        return choose

    def viewed(self, pictures: list[Image], view: View) -> NDArray[np.float32]:
        """Return one rectangle of all pictures."""
        return self._arranged([view.of(picture, self.modality.shape[-1]) for picture in pictures])

    def _arranged(self, frames: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return frames[0] if self._count == 1 else np.stack(frames)
