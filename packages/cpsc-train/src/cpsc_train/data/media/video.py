"""Frames of videos at given times, as FFmpeg shows them, and folders of frames."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cpsc_train.data.media.container import Span, Times, duration, open_container, streams
from cpsc_train.data.media.images import IMAGES, read_image
from cpsc_train.data.storage.files import Place
from cpsc_train.data.storage.untrusted import MOST_PIXELS, MOST_SHOWN
from cpsc_train.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

AHEAD = 8
"""Largest number of frames that are decoded rather than skipped by seeking."""

Choose = Callable[[int], Sequence[int]]
"""From the number of frames, at least 1, to the wanted ones, each in [0, number)."""


def every(count: int) -> Sequence[int]:
    """Choose all frames."""
    return range(count)


@dataclass(frozen=True)
class Pictures:
    """Frames that were extracted before, as images in the order of their names."""

    files: tuple[Place, ...]

    def at(self, choose: Choose) -> list[Image]:
        """Return the chosen frames."""
        return [read_image(self.files[k]) for k in choose(len(self.files))]


@dataclass(frozen=True)
class Video:
    """Frames of a video, `fps` per second: frame k is shown in the middle of the k-th interval of 1/fps seconds.

    Times count from the beginning of the recording. If the picture begins later than the sound, its first frame is
    shown until then, as in FFmpeg; if it ends earlier, there are fewer frames. Frames are rotated and mirrored by the
    display matrix. Pixels are taken as stored, whatever their aspect ratio, and the two fields of an interlaced frame
    stay together.
    """

    path: Place
    fps: float

    def at(self, choose: Choose) -> list[Image]:
        """Return the chosen frames; a video shorter than 1/fps seconds has one.

        Each part of the video is decoded at most once, from the key frame before the first time wanted in it. Raises
        DataError if the video cannot be decoded or is truncated, or the frames have more than `MOST_SHOWN` pixels.
        """
        with open_container(self.path) as file:
            span, stream = _span(file, self.path)
            length = span.end - span.zero
            chosen = choose(max(1, int(length * self.fps + 1e-6)))
            if len(chosen) * stream.width * stream.height > MOST_SHOWN:
                size = f"{len(chosen):,} frames of {stream.width} × {stream.height} pixels"
                raise DataError(f"{self.path}: {size} are too many at once: lower data.fps", "too long")
            lasts = min(1 / self.fps, length)
            times = {k: span.zero + (k + 0.5) * lasts for k in chosen}
            frames = _Player(file, stream, span, self.path).shown(times)
        return [frames[k] for k in chosen]


Frames = Pictures | Video


def listed(folder: Place) -> tuple[Place, ...]:
    """Return the images of a folder, sorted by name; none if there is no folder."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES))


def _span(file: Any, path: Place) -> tuple[Span, Any]:
    stream, sound = streams(file)
    if stream is None:
        raise DataError(f"{path}: has no frames", "zero frames")
    if stream.width * stream.height > MOST_PIXELS:
        raise DataError(f"{path}: has frames of {stream.width} × {stream.height} pixels", "wrong size")
    times = Times(path)
    for packet in file.demux([stream] if sound is None else [stream, sound]):
        times.add(packet)
    span = times.span(stream, duration(file))
    if span is None:
        raise DataError(f"{path}: has no frames", "zero frames")
    return span, stream


class _Player:
    """Decoder of frames in order of time, which seeks to a key frame if that saves decoding."""

    def __init__(self, file: Any, stream: Any, span: Span, path: Place) -> None:
        self._file, self._stream, self._span, self._path = file, stream, span, path
        self._base = float(stream.time_base)
        # AVI keeps times of decoding only; its frames are shown at the same intervals, from the first.
        self._in_order = file.format.name == "avi"
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # a frame may differ from the header
        self._frames: Iterator[tuple[float, Any]] = iter(())
        self._now: tuple[float, Any] | None = None
        self._next: tuple[float, Any] | None = None

    def shown(self, times: dict[int, float]) -> dict[int, Image]:
        """Return, by number, the frame on the screen at its time."""
        images: dict[int, Image] = {}
        for k, time in sorted(times.items(), key=lambda pair: pair[1]):
            self._go(time)
            if self._now is None:
                raise DataError(f"{self._path}: no frame can be decoded at {time:.2f} s")
            images[k] = upright(self._now[1], self._path)
        return images

    def _go(self, time: float) -> None:
        """Decode up to the last frame that begins at or before a time, or to the first frame."""
        if self._now is None or self._saves(self._now[0], time):
            self._seek(time)
        while self._next is not None and self._next[0] <= time:
            self._now, self._next = self._next, next(self._frames, None)

    def _saves(self, now: float, time: float) -> bool:
        key = self._span.key(time)
        return not self._in_order and key is not None and self._span.between(now, key[0]) > AHEAD

    def _seek(self, time: float) -> None:
        """Start at a frame that begins at or before a time, or at the first; some containers miss at the first try."""
        key = self._span.key(time)
        tries = [self._span.start] if self._in_order or key is None else [time, key[1], self._span.start]
        for place in tries:
            self._file.seek(int(place / self._base), stream=self._stream)
            self._frames = self._decoded()
            self._now = next(self._frames, None)
            if self._now is not None and self._now[0] <= time:
                break
        self._next = next(self._frames, None)

    def _decoded(self) -> Iterator[tuple[float, Any]]:
        """Return frames with the times at which they are shown."""
        frames = self._file.decode(self._stream)
        if self._in_order:
            return zip(self._span.begins, frames, strict=False)
        return ((frame.pts * self._base, frame) for frame in frames if frame.pts is not None)


def upright(frame: Any, path: Place) -> Image:
    """Return a decoded frame in RGB, rotated and mirrored by its display matrix.

    The matrix maps a point (x, y) to (a x + c y, b x + d y), with y downwards: ISO/IEC 14496-12, 6.2.2. Raises
    DataError if it rotates by an angle that is not a multiple of 90°.
    """
    from PIL.Image import Transpose  # noqa: PLC0415  # an extra

    image: Image = (_as_one_field(frame) if frame.interlaced_frame else frame).to_image()
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    a, b, _, c, d = struct.unpack("=9i", bytes(matrix))[:5]
    crossed = abs(b) + abs(c) > abs(a) + abs(d)
    across, down, *others = (c, b, a, d) if crossed else (a, d, b, c)
    if max(map(abs, others)) > 0.02 * min(abs(across), abs(down)):
        raise DataError(f"{path}: is rotated by an angle that is not a multiple of 90°", "wrong form")
    turns = {
        Transpose.TRANSPOSE: crossed,
        Transpose.FLIP_LEFT_RIGHT: across < 0,
        Transpose.FLIP_TOP_BOTTOM: down < 0,
    }
    for turn in (turn for turn, needed in turns.items() if needed):
        image = image.transpose(turn)
    return image


def _as_one_field(frame: Any) -> Any:
    """Return an interlaced frame in RGB, converted as FFmpeg does: as if it were not interlaced."""
    from av.filter import Graph  # noqa: PLC0415  # an extra

    graph = Graph()
    size = {"width": frame.width, "height": frame.height}
    source = graph.add_buffer(format=frame.format, time_base=frame.time_base or Fraction(1), **size)
    steps = [source, graph.add("scale", "interl=0"), graph.add("format", "rgb24"), graph.add("buffersink")]
    for before, after in pairwise(steps):
        before.link_to(after)
    graph.configure()
    graph.push(frame)
    return graph.pull()
