"""Detection of truncated sound and video files by the lengths that their containers state.

Decoders read what is left of a truncated file without an error: FFmpeg marks a packet as corrupt only where bytes of
it are missing, and not in Matroska; libsndfile only logs it. Every length here is compared with the bytes that exist. A
file that states none, such as a broadcast, is read to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from cpsc_train.data.storage.files import Place
from cpsc_train.errors import DataError

UNKNOWN = {0, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1}
"""Lengths that programs write into the header of a stream whose end they do not know."""
SLACK = 1
"""Bytes that uncompressed sound may lack: programs that count the padding of an odd length differ by one."""
BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"sidx", b"uuid", b"mfra"}
"""Boxes of the top level of an MP4 file."""
INNER = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
"""Boxes of an MP4 file that hold others."""
COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Offset of the number of samples in a box."""
FORMS = {
    b"RIFF": {b"WAVE": "WAV", b"AVI ": "AVI"},
    b"RIFX": {b"WAVE": "WAV"},
    b"RF64": {b"WAVE": "WAV"},
    b"FORM": {b"AIFF": "AIFF", b"AIFC": "AIFF"},
}
"""Containers by the first four bytes and those of the form."""
FIRST = {
    b"riff": "W64",
    b".snd": "AU",
    b"caff": "CAF",
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"\x1aE\xdf\xa3": "Matroska",
}
"""Containers by the first four bytes alone."""
Order = Literal["big", "little"]
CHUNKS: dict[str, tuple[int, Order, tuple[int, int, int], bytes]] = {
    "WAV": (12, "little", (4, 4, 2), b"data"),
    "W64": (40, "little", (16, 8, 8), b"data"),
    "AIFF": (12, "big", (4, 4, 2), b"SSND"),
    "CAF": (8, "big", (4, 8, 1), b"data"),
}
"""First chunk; byte order; bytes of a name and of a length, and alignment; name of the chunk of samples."""
MPEG_1 = 3
"""Number of MPEG 1 in the header of a frame; 2 is MPEG 2, and 0 is MPEG 2.5."""
MP3_KBIT = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
"""Bit rates in kbit/s by their number in the header of a frame: MPEG 2 and 2.5, and MPEG 1."""
FLV_TAGS = {8, 9, 18}
"""Sound, frames and data."""
SEGMENT = b"\x18S\x80g"
"""Element of Matroska that holds all others but the first."""
Chunk = tuple[bytes, int, int]
"""Name, first byte of the content, and its stated number of bytes."""


def container_of(content: bytes) -> str:
    """Return the name of the container that the first bytes announce, or ``""``.

    Examples
    --------
    >>> container_of(b"RIFF....WAVEfmt "), container_of(b"fLaC"), container_of(b"ffconcat version 1.0")
    ('WAV', 'FLAC', '')
    """
    first = content[:4]
    if content[4:8] in BOXES:
        return "MP4"
    if first in FORMS:
        return FORMS[first].get(content[8:12], "")
    if first in FIRST:
        return FIRST[first]
    if first[:3] == b"FLV":
        return "FLV"
    mpeg = len(content) > 1 and content[0] == 0xFF and content[1] & 0xE0 == 0xE0
    return "MP3" if mpeg or first[:3] == b"ID3" else ""


def refuse_truncated(content: bytes, path: Place) -> None:
    """Check that a file is as long as its container states, and has a byte for each sample that it states.

    Raises DataError if not.
    """
    kind = container_of(content)
    if kind == "MP4":
        _refuse_forged(content, path)
    missing = MISSING[kind](content) if kind in MISSING else 0
    if missing > (SLACK if kind in CHUNKS or kind == "AU" else 0):
        raise DataError(f"{path}: is cut off (bytes that are missing: {missing:,})", "truncated")


def _int(content: bytes, start: int, width: int = 4, order: Order = "big") -> int:
    return int.from_bytes(content[start : start + width], order)


def _past(content: bytes, start: int, size: int) -> int:
    """Return how many of `size` bytes from `start` on are missing."""
    return 0 if size in UNKNOWN else max(0, start + size - len(content))


def _chunks(content: bytes, place: int, order: Order, layout: tuple[int, int, int] = (4, 4, 2)) -> Iterator[Chunk]:
    """Yield the chunks of RIFF, W64, AIFF and CAF: name, length, content, padding."""
    letters, width, align = layout
    head = letters + width
    while place + head <= len(content):
        size = _int(content, place + letters, width, order)
        endless = size in UNKNOWN and size > 0
        if letters > 4 and not endless:  # lengths of W64 count name and length
            size = max(0, size - head)
        yield content[place : place + 4], place + head, size
        if endless:
            return
        place += head + size + -size % align


def _sound(kind: str, content: bytes) -> int:
    """Return the number of bytes missing from the samples, by their length or the count of an uncompressed AIFF."""
    place, order, layout, samples = CHUNKS[kind]
    order = "big" if content[:4] == b"RIFX" else order
    long = stated = 0
    for name, start, size in _chunks(content, place, order, layout):
        if name == b"ds64":
            long = _int(content, start + 8, 8, "little")
        if name == b"COMM" and content[8:12] == b"AIFF":
            stated = _int(content, start, 2) * _int(content, start + 2) * -(-_int(content, start + 6, 2) // 8)
        if name == samples:
            length = long if content[:4] == b"RF64" and size == 2**32 - 1 else size
            return max(_past(content, start, length), stated - (size - 8) if stated and size not in UNKNOWN else 0)
    return 0


def _avi(content: bytes) -> int:
    chunks = _chunks(content, 0, "little")
    return max((_past(content, start, size) for name, start, size in chunks if name == b"RIFF"), default=0)


def _ogg(content: bytes) -> int:
    """Return the number of bytes missing from the last page; 1 if no page ends a stream."""
    ended: dict[bytes, bool] = {}
    place = 0
    while content[place : place + 4] == b"OggS":
        count = content[place + 26] if place + 26 < len(content) else 255
        table = content[place + 27 : place + 27 + count]
        end = place + 27 + count + sum(table)
        if len(table) < count or end > len(content):
            return max(1, end - len(content))
        ended[content[place + 14 : place + 18]] = bool(content[place + 5] & 4)
        place = end
    return 0 if all(ended.values()) else 1


def _mp3(content: bytes) -> int:
    """Return the number of bytes missing from those a Xing header counts, or from the last frame."""
    start = _mp3_start(content)
    first = content[start : start + 64]
    header = max(first.find(b"Xing"), first.find(b"Info"))
    if header >= 0 and header + 8 < len(first) and first[header + 7] & 2:
        return _past(content, start, _int(first, header + 8 + 4 * (first[header + 7] & 1)))
    return max(0, start + sum(length for length, _ in _mp3_frames(content)) - len(content))


def mp3_samples(content: bytes) -> int:
    """Return the number of samples per channel in the frames of an MP3 file."""
    return sum(samples for _, samples in _mp3_frames(content))


def _mp3_start(content: bytes) -> int:
    """Return where frames begin, after the ID3 tag."""
    if content[:3] != b"ID3":
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=False))


def _mp3_frames(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield bytes and samples of each frame of layer III, until something else follows."""
    place = _mp3_start(content)
    while (length := _mp3_frame(content[place : place + 4])) > 0:
        yield length, 1152 if content[place + 1] >> 3 & 3 == MPEG_1 else 576
        place += length


def _mp3_frame(head: bytes) -> int:
    """Return the bytes of a frame of layer III, ISO/IEC 11172-3 and 13818-3, or 0 for anything else."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, kbit, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbit in {0, 15} or rate == 3:
        return 0
    samples = 144_000 if version == MPEG_1 else 72_000
    hertz = (44_100, 48_000, 32_000)[rate] >> {MPEG_1: 0, 2: 1, 0: 2}[version]
    return samples * MP3_KBIT[version == MPEG_1][kbit] // hertz + (head[2] >> 1 & 1)


def _flv(content: bytes) -> int:
    """Return the number of bytes missing from the last tag; bytes after the tags are ignored."""
    place = end = _int(content, 5) + 4
    while place < len(content) and content[place] in FLV_TAGS:
        end = place + 11 + _int(content, place + 1, 3)
        if end > len(content) or place + 11 > len(content):
            return max(1, end - len(content))
        place = end + 4
    return max(0, end - len(content))


def _matroska(content: bytes) -> int:
    """Return what elements lack; the content of those of unknown length, as in a live stream, is followed."""
    place = missing = 0
    while place + 2 <= len(content):
        at = place + _width(content[place])
        width = _width(content[at]) if at < len(content) else 9
        if at > place + 4 or width > 8:
            break
        most = (1 << 7 * width) - 1
        size = _int(content, at, width) & most
        last = content[place:at] == SEGMENT and size != most
        place = at + width + (0 if size == most else size)
        missing = max(missing, place - len(content))
        if last:  # other bytes may follow
            break
    return missing


def _width(first: int) -> int:
    """Return the bytes of a number of variable length, or 9 for anything else."""
    return 9 - first.bit_length()


def _boxes(content: bytes, place: int, end: int) -> Iterator[Chunk]:
    """Yield the boxes of an MP4 file; one of length 0 extends to the end."""
    while place + 8 <= end:
        size, head = _int(content, place), 8
        if size == 1:
            size, head = _int(content, place + 8, 8), 16
        size = size or end - place
        if size < head:
            return
        yield content[place + 4 : place + 8], place + head, size - head
        place += size


def _mp4(content: bytes) -> int:
    """Return what boxes lack; 1 if the samples of the last fragment are missing altogether."""
    last = b""
    for name, start, size in _boxes(content, 0, len(content)):
        if start + size > len(content):
            return start + size - len(content) if name in BOXES else 0  # other bytes may follow the last box
        last = name if name in {b"moof", b"mdat"} else last
    return int(last == b"moof")


def _refuse_forged(content: bytes, path: Place) -> None:
    """Refuse an MP4 file whose tables state more samples than it has bytes, for which FFmpeg would allocate memory."""
    ranges = [(0, len(content))]
    while ranges:
        for name, start, size in _boxes(content, *ranges.pop()):
            if name in INNER:
                ranges.append((start, min(start + size, len(content))))
            if name == b"cmov":
                raise DataError(f"{path}: has a compressed header, which is not read: convert it with ffmpeg -c copy")
            count = _int(content, start + COUNTS[name]) if name in COUNTS else 0
            if count > len(content):
                raise DataError(f"{path}: states {count:,} samples and has {len(content):,} bytes", "damaged")


MISSING: dict[str, Callable[[bytes], int]] = {
    **{kind: partial(_sound, kind) for kind in CHUNKS},
    "AU": lambda content: _past(content, _int(content, 4), _int(content, 8)),
    "Ogg": _ogg,
    "MP3": _mp3,
    "AVI": _avi,
    "MP4": _mp4,
    "Matroska": _matroska,
    "FLV": _flv,
}
"""By container, a function that returns the number of missing bytes; libFLAC refuses a truncated file itself."""
