"""Videos: frames at given times, and the sound, of whatever container FFmpeg reads."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cpsc_train.data.media.audio import Samples, refuse_long, refuse_rate, to_mono
from cpsc_train.data.media.files import Place, read_bytes
from cpsc_train.data.media.images import read_image
from cpsc_train.data.media.untrusted import MOST_PIXELS
from cpsc_train.errors import DataError, UserError, needs, reason

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".flv", ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4a")
IMAGES = (".jpg", ".jpeg", ".png")
LONGEST = 3600.0
"""Seconds that a header may state; a longer time is not believed."""


Choose = Callable[[int], Sequence[int]]
"""From the number of frames there are, at least 1, to which are wanted, each in [0, number)."""


class Frames(Protocol):
    """The frames of a recording that may be looked at, in order of time."""

    def at(self, choose: Choose) -> list[Image]:
        """Return the chosen ones."""


def every(count: int) -> Sequence[int]:
    """Choose all frames."""
    return range(count)


@dataclass(frozen=True)
class Pictures:
    """Frames that somebody has taken out before: images of a folder, in the order of their names.

    Parameters
    ----------
    files
        The images.
    """

    files: tuple[Place, ...]

    def at(self, choose: Choose) -> list[Image]:
        """Return the chosen ones."""
        return [read_image(self.files[k]) for k in choose(len(self.files))]


@dataclass(frozen=True)
class Video:
    """Frames of a video, `fps` a second: the k-th is what is shown in the middle of the k-th stretch of 1/fps seconds.

    Parameters
    ----------
    path
        The file.
    fps
        Frames a second.
    """

    path: Place
    fps: float

    def at(self, choose: Choose) -> list[Image]:
        """Return the chosen ones; a video that is shorter than 1/fps seconds has one.

        Decodes from the key frame before each, so O(frames between key frames).
        """
        with _opened(self.path) as container:
            start, end = _span(container, self.path)
            chosen = choose(max(1, int((end - start) * self.fps + 1e-6)))
            length = min(1 / self.fps, end - start)
            found = _shown(container, {k: start + (k + 0.5) * length for k in chosen}, self.path)
        return [found[k] for k in chosen]


def listed(folder: Place) -> tuple[Place, ...]:
    """Return the images of a folder in the order of their names; none where there is no folder."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES))


def decode_sound(path: Place) -> tuple[Samples, int]:
    """Return the samples (n,) of the first sound of a video, channels averaged, and their rate in Hz.

    Raises
    ------
    UserError
        If there is none, or it cannot be decoded.
    """
    with _opened(path) as container:
        if not container.streams.audio:
            raise DataError(f"{path}: has no sound", "no sound")
        stream = container.streams.audio[0]
        rate = int(stream.rate or 0)
        refuse_rate(rate, path)
        import av  # noqa: PLC0415  # an extra

        resampler = av.AudioResampler(format="flt", rate=rate)  # one format, the channels as they are
        blocks: list[Samples] = []
        total = 0
        for frame in container.decode(stream):
            for block in resampler.resample(frame):
                values = block.to_ndarray().reshape(-1, len(block.layout.channels))
                blocks.append(values.astype(np.float32, copy=False))
                total += values.size
                refuse_long(total, path)
    if not total:
        raise DataError(f"{path}: has sound of no length", "no samples")
    return to_mono(np.concatenate(blocks), path), rate


@contextmanager
def _opened(path: Place) -> Iterator[Any]:
    """Open a container; whatever FFmpeg says of it is told with its name."""
    with needs("PyAV", extra="video"):
        import av  # noqa: PLC0415  # an extra
    av.logging.set_level(None)  # a library must not write to the terminal
    held = read_bytes(path)
    # A title in another encoding is no reason to refuse a video; PyAV 19 has no strict reading of it any more.
    lenient: Any = {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
    try:
        with av.open(io.BytesIO(held), **lenient) as container:
            yield container
    except UserError:
        raise
    except Exception as error:  # a damaged file can make the decoders fail in any way
        raise DataError(f"{path}: is not a readable video ({reason(error)})") from None


def _span(container: Any, path: Place) -> tuple[float, float]:
    """Return when the frames begin and end, in seconds, from the packets themselves: headers are often wrong."""
    if not container.streams.video:
        raise DataError(f"{path}: has no frames", "zero frames")
    stream = container.streams.video[0]
    if stream.width * stream.height > MOST_PIXELS:
        raise DataError(f"{path}: has frames of {stream.width} × {stream.height} pixels", "wrong size")
    packets = [packet for packet in container.demux(stream) if packet.pts is not None]
    if not packets:
        raise DataError(f"{path}: has no frames", "zero frames")
    begins = [float(packet.pts * packet.time_base) for packet in packets]
    start, last = min(begins), max(begins)
    gap = (
        (last - start) / (len(begins) - 1) if len(begins) > 1 else 0.0
    )  # some containers do not say how long one lasts
    end = max(b + float((p.duration or 0) * p.time_base or gap) for b, p in zip(begins, packets, strict=True))
    if not 0 <= end - start <= LONGEST:
        raise DataError(f"{path}: lasts {end - start:.0f} s by its own times", "wrong time")
    stated = 0.0 if container.duration is None else container.duration / 1e6
    if end - start + 0.5 < 0.9 * stated <= LONGEST:
        raise DataError(f"{path}: is cut off: {end - start:.1f} of {stated:.1f} s are there", "truncated")
    return start, max(end, start + 1e-3)


def _shown(container: Any, times: dict[int, float], path: Place) -> dict[int, Image]:
    """Return, by number, the frame that is on the screen at its time."""
    stream = container.streams.video[0]
    base = stream.time_base
    found: dict[int, Image] = {}
    for k, time in sorted(times.items(), key=lambda pair: pair[1]):
        container.seek(int(time / base), stream=stream)
        shown = None
        for frame in container.decode(stream):
            if frame.pts is None or (shown is not None and float(frame.pts * base) > time):
                break
            shown = frame
        if shown is None:
            raise DataError(f"{path}: no frame can be decoded at {time:.2f} s")
        found[k] = shown.to_image()
    return found
