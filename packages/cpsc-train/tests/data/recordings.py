"""Small recordings whose frames and samples are known, in the containers and with the faults that real ones have."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 48_000
SIDE = 32
Pictures = Sequence[np.ndarray]


def greys(count: int) -> list[np.ndarray]:
    """Return frames whose grey tells their number, 4 · k."""
    return [np.full((SIDE, SIDE, 3), 4 * k, np.uint8) for k in range(count)]


def record(
    path: Path,
    frames: Pictures = (),
    *,
    fps: int = 10,
    starts: tuple[float, float] = (0.0, 0.0),
    seconds: float = 0.0,
    gop: int = 10,
    between: int = 0,
    form: str = "yuv444p",
    container: dict[str, str] | None = None,
    prepare: Callable[[Any], None] = lambda context: None,
) -> Path:
    """Write frames without loss in H.264, and a tone of a length in AAC.

    Parameters
    ----------
    path
        Its suffix is the container.
    frames
        RGB, (height, width, 3).
    fps, gop, between
        Frames a second, between key frames, and of the kind B between two others.
    starts
        Seconds at which frames and sound begin.
    seconds
        Length of the tone; none at 0.
    form
        Of the pixels.
    container
        Options of the muxer.
    prepare
        Called with the codec of the frames.

    Returns
    -------
    `path`.
    """
    with av.open(str(path), "w", container_options=container or {}) as file:
        streams = []
        if frames:
            options = {"qp": "0", "preset": "ultrafast", "bf": str(between), "sc_threshold": "0", "b-adapt": "0"}
            picture = file.add_stream("libx264", rate=fps, options=options)
            picture.height, picture.width = frames[0].shape[:2]
            picture.pix_fmt, picture.gop_size = form, gop
            prepare(picture.codec_context)
            streams.append(list(_frames(picture, frames, round(starts[0] * fps), form)))
        if seconds:
            streams.append(list(_tone(file.add_stream("aac", rate=RATE, layout="mono"), seconds, starts[1])))
        packets = [packet for stream in streams for packet in stream]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            file.mux(packet)
    return path


def _frames(stream: Any, frames: Pictures, start: int, form: str) -> Any:
    for k, values in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(values, format="rgb24").reformat(format=form)
        frame.pts = start + k
        frame.time_base = 1 / stream.codec_context.rate
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _tone(stream: Any, seconds: float, start: float) -> Any:
    values = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)
    for place in range(0, len(values), 1024):
        frame = av.AudioFrame.from_ndarray(values[None, place : place + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, round(start * RATE) + place
        yield from stream.encode(frame)
    yield from stream.encode(None)


def turn(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Put a display matrix into an MP4 file: a place (x, y) is shown at (a x + c y, b x + d y)."""
    held = bytearray(path.read_bytes())
    place = held.index(b"tkhd") + 4 + 40
    held[place : place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(held))
    return path
