"""Video and sound containers, opened with the one demuxer that their suffix allows, and the times of their streams."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cpsc_train.data.media.truncation import container_of, refuse_truncated
from cpsc_train.data.storage.files import Place, read_bytes
from cpsc_train.data.storage.untrusted import CONTAINERS, LONGEST, MOST_PACKETS, MOST_STREAMS
from cpsc_train.errors import DataError, UserError, needs, reason

LATE = 0.25
"""Seconds, the largest delay of encoders: a stream that begins less late counts as beginning with the recording."""


@dataclass(frozen=True)
class Span:
    """Times of a stream in seconds."""

    zero: float
    """Beginning of the recording, or of the stream if that is at most `LATE` later."""
    start: float
    end: float
    begins: tuple[float, ...]
    """Beginning of each packet, sorted."""
    keys: tuple[tuple[float, float], ...]
    """Beginning of each key packet, where decoding can start, and its decoding time; sorted."""

    def key(self, time: float) -> tuple[float, float] | None:
        """Return the last key packet that begins at or before a time."""
        place = bisect_right(self.keys, (time, float("inf")))
        return self.keys[place - 1] if place else None

    def between(self, before: float, after: float) -> int:
        """Return the number of packets that begin after one time and not after another."""
        return bisect_right(self.begins, after) - bisect_right(self.begins, before)


@dataclass
class Times:
    """Times of the packets of a container, measured because headers are often wrong."""

    path: Place
    _packets: dict[int, list[tuple[float, float, float, bool]]] = field(default_factory=dict)
    _count: int = 0

    def add(self, packet: Any) -> None:
        """Record the times of a packet.

        Packets before the first frame shown, which a copy without encoding keeps, and the empty last packet are left
        out. Raises DataError if the packet is incomplete, or there are more than `MOST_PACKETS`.
        """
        self._count += 1
        if packet.is_corrupt:
            raise DataError(f"{self.path}: is cut off or damaged: a packet is incomplete", "truncated")
        if self._count > MOST_PACKETS:
            raise DataError(f"{self.path}: has more than {MOST_PACKETS:,} packets: cut the recording", "too long")
        if packet.pts is None or packet.is_discard:
            return
        base = float(packet.time_base)
        decoded = packet.pts if packet.dts is None else packet.dts
        times = (packet.pts * base, (packet.duration or 0) * base, decoded * base, bool(packet.is_keyframe))
        self._packets.setdefault(packet.stream.index, []).append(times)

    def span(self, stream: Any, stated: float) -> Span | None:
        """Return the times of a stream, or ``None`` if it has no packets.

        Raises DataError if it lasts longer than `LONGEST`, or ends before the duration in the header of the stream, or
        that of the container (`stated` seconds) if the stream has none.
        """
        if stream.index not in self._packets:
            return None
        spans = {index: self._measure(index) for index in self._packets}
        start, end = spans[stream.index]
        zero = min(begin for begin, _ in spans.values())
        length = end - start
        if stream.duration is None:
            length = max(last for _, last in spans.values()) - zero
        else:
            stated = float(stream.duration * stream.time_base)
        if length + 0.5 < 0.9 * stated <= LONGEST:
            raise DataError(f"{self.path}: is cut off: {length:.1f} of {stated:.1f} s are there", "truncated")
        packets = self._packets[stream.index]
        return Span(
            start if start - zero <= LATE else zero,
            start,
            max(end, start + 1e-3),
            tuple(sorted(begin for begin, *_ in packets)),
            tuple(sorted((begin, decoded) for begin, _, decoded, key in packets if key)),
        )

    def _measure(self, index: int) -> tuple[float, float]:
        """Return when a stream begins and ends; some containers do not state the duration of a packet."""
        begins = [begin for begin, *_ in self._packets[index]]
        start, last = min(begins), max(begins)
        gap = (last - start) / (len(begins) - 1) if len(begins) > 1 else 0.0
        end = max(begin + (lasts or gap) for begin, lasts, *_ in self._packets[index])
        if not 0 <= end - start <= LONGEST:
            raise DataError(f"{self.path}: lasts {end - start:.0f} s by its own times", "wrong time")
        return start, end


@contextmanager
def open_container(path: Place) -> Iterator[Any]:
    """Open a container in the format that its suffix names.

    Raises DataError if it has another format, is truncated or damaged, or has more than `MOST_STREAMS` streams, and for
    any error of FFmpeg inside the block.
    """
    with needs("PyAV", extra="video"):
        import av  # noqa: PLC0415  # an extra
    av.logging.set_level(None)  # a library must not write to the terminal
    wanted, demuxer = CONTAINERS[path.suffix.lower()]
    content = read_bytes(path)
    kind = container_of(content)
    if kind != wanted:
        got = f"is {kind}: name it accordingly" if kind else "does not begin as one"
        raise DataError(f"{path}: is not a readable video: must be {wanted} by its name, and {got}")
    refuse_truncated(content, path)
    # A title in another encoding is no reason to refuse a video; PyAV 19 does not read it strictly any more.
    lenient: Any = {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
    options = {"format_whitelist": demuxer, "protocol_whitelist": "none"}  # the file must not open anything else
    try:
        with av.open(io.BytesIO(content), format=demuxer, container_options=options, **lenient) as file:
            if len(file.streams) > MOST_STREAMS:
                raise DataError(f"{path}: has {len(file.streams)} streams, and may have {MOST_STREAMS}")  # noqa: TRY301
            yield file
    except UserError:
        raise
    except Exception as error:  # a damaged file can make decoders fail in any way
        raise DataError(f"{path}: is not a readable video ({reason(error)})") from None


def streams(file: Any) -> tuple[Any | None, Any | None]:
    """Return the first video stream that is not a cover image, and the first sound stream, or None."""
    from av.stream import Disposition  # noqa: PLC0415  # an extra

    frames = (stream for stream in file.streams.video if not stream.disposition & Disposition.attached_pic)
    return next(frames, None), next(iter(file.streams.audio), None)


def duration(file: Any) -> float:
    """Return the seconds that the header of a container states, or 0."""
    return 0.0 if file.duration is None else float(file.duration) / 1e6
