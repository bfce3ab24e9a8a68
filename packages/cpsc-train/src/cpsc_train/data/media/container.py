"""Containers of video and sound: opened by the one demuxer that their suffix allows; the times of their streams."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cpsc_train.data.media.whole import container, refuse_cut
from cpsc_train.data.storage.files import Place, read_bytes
from cpsc_train.data.storage.untrusted import CONTAINERS, LONGEST, MOST_PACKETS, MOST_STREAMS
from cpsc_train.errors import DataError, UserError, needs, reason

LATE = 0.25
"""Seconds by which a stream may begin after the other and still count as beginning with it: what encoders delay."""


@dataclass(frozen=True)
class Span:
    """When a stream is shown, in seconds.

    Parameters
    ----------
    zero
        What counts as the beginning: that of the recording, or of the stream where it is at most `LATE` later.
    start, end
        When the stream itself begins and ends.
    begins
        When each packet begins, sorted.
    keys
        When those begin from which a decoder can start, and their own place in the order of decoding.
    """

    zero: float
    start: float
    end: float
    begins: tuple[float, ...]
    keys: tuple[tuple[float, float], ...]

    def key(self, time: float) -> tuple[float, float] | None:
        """Return the last packet before a time from which a decoder can start."""
        place = bisect_right(self.keys, (time, float("inf")))
        return self.keys[place - 1] if place else None

    def between(self, before: float, after: float) -> int:
        """Return how many packets begin after one time and not after another."""
        return bisect_right(self.begins, after) - bisect_right(self.begins, before)


@dataclass
class Times:
    """Times of the packets of a container, as they are read; headers are often wrong.

    Parameters
    ----------
    path
        The file, for messages.
    """

    path: Place
    _packets: dict[int, list[tuple[float, float, float, bool]]] = field(default_factory=dict)
    _count: int = 0

    def add(self, packet: Any) -> None:
        """Take down when a packet begins, ends and is decoded.

        Packets before the first that is shown, which a copy without encoding keeps, and the empty last one are left
        out.

        Raises
        ------
        DataError
            If a part of it is missing, or there are more than `MOST_PACKETS`.
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
        """Return when a stream is shown; ``None`` where it has no packets.

        Raises
        ------
        DataError
            If it lasts longer than `LONGEST`, or ends before its header states: the stream's own, or that of the
            container, `stated` seconds, where it has none.
        """
        if stream.index not in self._packets:
            return None
        spans = {index: self._measure(index) for index in self._packets}
        start, end = spans[stream.index]
        zero = min(begin for begin, _ in spans.values())
        if stream.duration is None:
            self._refuse_short(max(last for _, last in spans.values()) - zero, stated)
        else:
            self._refuse_short(end - start, float(stream.duration * stream.time_base))
        packets = self._packets[stream.index]
        return Span(
            start if start - zero <= LATE else zero,
            start,
            max(end, start + 1e-3),
            tuple(sorted(begin for begin, *_ in packets)),
            tuple(sorted((begin, decoded) for begin, _, decoded, key in packets if key)),
        )

    def _measure(self, index: int) -> tuple[float, float]:
        """Return when a stream begins and ends; some containers do not say how long a packet lasts."""
        begins = [begin for begin, *_ in self._packets[index]]
        start, last = min(begins), max(begins)
        gap = (last - start) / (len(begins) - 1) if len(begins) > 1 else 0.0
        end = max(begin + (lasts or gap) for begin, lasts, *_ in self._packets[index])
        if not 0 <= end - start <= LONGEST:
            raise DataError(f"{self.path}: lasts {end - start:.0f} s by its own times", "wrong time")
        return start, end

    def _refuse_short(self, length: float, stated: float) -> None:
        if length + 0.5 < 0.9 * stated <= LONGEST:
            raise DataError(f"{self.path}: is cut off: {length:.1f} of {stated:.1f} s are there", "truncated")


@contextmanager
def opened(path: Place) -> Iterator[Any]:
    """Open a container of the format that its suffix names; an error of FFmpeg becomes one that names the file.

    Raises
    ------
    DataError
        If it is of another format, cut off or damaged, or has more than `MOST_STREAMS` streams.
    """
    with needs("PyAV", extra="video"):
        import av  # noqa: PLC0415  # an extra
    av.logging.set_level(None)  # a library must not write to the terminal
    wanted, demuxer = CONTAINERS[path.suffix.lower()]
    held = read_bytes(path)
    found = container(held)
    if found != wanted:
        told = f"is {found}: name it accordingly" if found else "does not begin as one"
        raise DataError(f"{path}: is not a readable video: must be {wanted} by its name, and {told}")
    refuse_cut(held, path)
    # A title in another encoding is no reason to refuse a video; PyAV 19 has no strict reading of it any more.
    lenient: Any = {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
    options = {"format_whitelist": demuxer, "protocol_whitelist": "none"}  # nothing else is opened on its behalf
    try:
        with av.open(io.BytesIO(held), format=demuxer, container_options=options, **lenient) as file:
            if len(file.streams) > MOST_STREAMS:
                raise DataError(f"{path}: has {len(file.streams)} streams, and may have {MOST_STREAMS}")  # noqa: TRY301
            yield file
    except UserError:
        raise
    except Exception as error:  # a damaged file can make the decoders fail in any way
        raise DataError(f"{path}: is not a readable video ({reason(error)})") from None


def streams(file: Any) -> tuple[Any | None, Any | None]:
    """Return the first stream of frames that is not a cover, and the first of sound, where there are any."""
    from av.stream import Disposition  # noqa: PLC0415  # an extra

    frames = (stream for stream in file.streams.video if not stream.disposition & Disposition.attached_pic)
    return next(frames, None), next(iter(file.streams.audio), None)


def stated(file: Any) -> float:
    """Return the seconds that the header of a container states, 0 where it states none."""
    return 0.0 if file.duration is None else float(file.duration) / 1e6
