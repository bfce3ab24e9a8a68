"""Whether a file of sound or video is as long as its own container states, read from lengths alone.

Decoders read what is left of a file that was cut and do not say so. Every length here is a claim of the file that is
compared with the bytes that are there; a file that states none, such as a broadcast, is read as far as it goes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from cpsc_train.data.storage.files import Place
from cpsc_train.errors import DataError

UNKNOWN = {0, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1}
"""Lengths that a program writes into the header of a stream whose end it does not know."""
SLACK = 1
"""Bytes that uncompressed sound may lack: programs that count the padding of an odd length differ by one."""
BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"sidx", b"uuid", b"mfra"}
"""Boxes of the top level of an MP4 file."""
FORMS = {
    b"RIFF": {b"WAVE": "WAV", b"AVI ": "AVI"},
    b"RIFX": {b"WAVE": "WAV"},
    b"RF64": {b"WAVE": "WAV"},
    b"FORM": {b"AIFF": "AIFF", b"AIFC": "AIFF"},
}
"""By the first four bytes and those of the form."""
FIRST = {
    b"riff": "W64",
    b".snd": "AU",
    b"caff": "CAF",
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"\x1aE\xdf\xa3": "Matroska",
}
"""By the first four bytes alone."""
MPEG_1 = 3
"""Number of MPEG 1 in the header of a frame; 2 is MPEG 2, and 0 is MPEG 2.5."""
MP3_KBIT = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
"""Thousands of bits a second by their number in the header of a frame: MPEG 2 and 2.5, and MPEG 1."""
FLV_TAGS = {8, 9, 18}
"""Sound, frames and data."""
SEGMENT = b"\x18S\x80g"
"""Element of Matroska that holds all the others but the first."""
Chunk = tuple[bytes, int, int]
"""Name, first byte of the content, and the number of bytes that it states."""


def container(held: bytes) -> str:
    """Return the name of the container that the first bytes announce, or ``""``.

    Examples
    --------
    >>> container(b"RIFF....WAVEfmt "), container(b"fLaC"), container(b"ffconcat version 1.0")
    ('WAV', 'FLAC', '')
    """
    first, form = held[:4], held[8:12]
    if held[4:8] in BOXES:
        return "MP4"
    if first in FORMS:
        return FORMS[first].get(form, "")
    if first in FIRST:
        return FIRST[first]
    if first[:3] == b"FLV":
        return "FLV"
    mpeg = len(held) > 1 and held[0] == 0xFF and held[1] & 0xE0 == 0xE0
    return "MP3" if mpeg or first[:3] == b"ID3" else ""


def refuse_cut(held: bytes, path: Place) -> None:
    """Refuse a file that ends before its container does, or states more samples than it has bytes.

    Raises
    ------
    DataError
        If it does.
    """
    kind = container(held)
    if kind == "MP4":
        _refuse_forged(held, path)
    lacks = WALKS.get(kind)
    missing = 0 if lacks is None else lacks(held)
    if missing > (SLACK if kind in PLAIN else 0):
        raise DataError(f"{path}: is cut off (bytes that are missing: {missing:,})", "truncated")


def _chunks(held: bytes, place: int, order: str, width: int = 4, pad: int = 2) -> Iterator[Chunk]:
    """Return the chunks of RIFF, AIFF and CAF: four letters, a length, the content, padding."""
    while place + 4 + width <= len(held):
        size = int.from_bytes(held[place + 4 : place + 4 + width], order)  # type: ignore[arg-type]
        yield held[place : place + 4], place + 4 + width, size
        if size in UNKNOWN and size:
            return
        place += 4 + width + size + size % pad


def _past(held: bytes, place: int, size: int) -> int:
    """Return how many of the bytes from a place on are not there."""
    return 0 if size in UNKNOWN else max(0, place + size - len(held))


def _wav(held: bytes) -> int:
    long = 0
    for name, place, size in _chunks(held, 12, "big" if held[:4] == b"RIFX" else "little"):
        if name == b"ds64":
            long = int.from_bytes(held[place + 8 : place + 16], "little")
        if name == b"data":
            return _past(held, place, long if held[:4] == b"RF64" and size == 2**32 - 1 else size)
    return 0


def _w64(held: bytes) -> int:
    place = 40  # a name of 16 bytes, a length that counts itself, and the name of the form
    while place + 24 <= len(held):
        size = int.from_bytes(held[place + 16 : place + 24], "little")
        if held[place : place + 4] == b"data":
            return _past(held, place, size)
        place += max(24, size + -size % 8)
    return 0


def _aiff(held: bytes) -> int:
    """Return what the sound lacks of its length, or of the samples that COMM states where it is not compressed."""
    stated = 0
    for name, place, size in _chunks(held, 12, "big"):
        if name == b"COMM" and held[8:12] == b"AIFF":
            channels, frames, bits = struct.unpack_from(">HIH", held.ljust(place + 8, b"\0"), place)
            stated = frames * channels * -(-bits // 8)
        if name == b"SSND":
            return max(_past(held, place, size), 0 if size in UNKNOWN else stated - (size - 8))
    return 0


def _caf(held: bytes) -> int:
    chunks = _chunks(held, 8, "big", 8, 1)
    return next((_past(held, place, size) for name, place, size in chunks if name == b"data"), 0)


def _au(held: bytes) -> int:
    start, size = (int.from_bytes(held[place : place + 4], "big") for place in (4, 8))
    return _past(held, start, size)


def _ogg(held: bytes) -> int:
    """Return what the last page lacks; 1 where no page ends the stream."""
    ended: dict[bytes, bool] = {}
    place = 0
    while held[place : place + 4] == b"OggS":
        count = held[place + 26] if place + 26 < len(held) else 255
        table = held[place + 27 : place + 27 + count]
        end = place + 27 + count + sum(table)
        if len(table) < count or end > len(held):
            return max(1, end - len(held))
        ended[held[place + 14 : place + 18]] = bool(held[place + 5] & 4)
        place = end
    return 0 if all(ended.values()) else 1


def _mp3(held: bytes) -> int:
    """Return what the header of Xing counts, or the last frame states, and is not there."""
    place = _mp3_start(held)
    first = held[place : place + 64]
    header = max(first.find(b"Xing"), first.find(b"Info"))
    if header >= 0 and header + 8 < len(first) and first[header + 7] & 2:
        counted = header + 8 + 4 * (first[header + 7] & 1)
        return _past(held, place, int.from_bytes(first[counted : counted + 4], "big"))
    return max(0, place + sum(length for length, _ in _mp3_frames(held)) - len(held))


def mp3_samples(held: bytes) -> int:
    """Return how many samples a channel the frames of an MP3 file hold."""
    return sum(samples for _, samples in _mp3_frames(held))


def _mp3_start(held: bytes) -> int:
    """Return where frames begin: behind the title."""
    if held[:3] != b"ID3":
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(held[6:10], (21, 14, 7, 0), strict=False))


def _mp3_frames(held: bytes) -> Iterator[tuple[int, int]]:
    """Return bytes and samples of each frame of layer III, up to what is none."""
    place = _mp3_start(held)
    while (length := _mp3_frame(held[place : place + 4])) > 0:
        yield length, 1152 if held[place + 1] >> 3 & 3 == MPEG_1 else 576
        place += length


def _mp3_frame(head: bytes) -> int:
    """Return the bytes of a frame of layer III, ISO/IEC 11172-3 and 13818-3, 0 where there is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, kbit, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbit in {0, 15} or rate == 3:
        return 0
    samples = 144_000 if version == MPEG_1 else 72_000
    hertz = (44_100, 48_000, 32_000)[rate] >> {MPEG_1: 0, 2: 1, 0: 2}[version]
    return samples * MP3_KBIT[version == MPEG_1][kbit] // hertz + (head[2] >> 1 & 1)


def _avi(held: bytes) -> int:
    chunks = _chunks(held, 0, "little")
    return max((_past(held, place, size) for name, place, size in chunks if name == b"RIFF"), default=0)


def _flv(held: bytes) -> int:
    """Return what the last tag lacks; what follows the tags and is none is not looked at."""
    place = int.from_bytes(held[5:9], "big") + 4
    end = place
    while place < len(held) and held[place] in FLV_TAGS:
        end = place + 11 + int.from_bytes(held[place + 1 : place + 4], "big")
        if end > len(held) or place + 11 > len(held):
            return max(1, end - len(held))
        place = end + 4
    return max(0, end - len(held))


def _matroska(held: bytes) -> int:
    """Return what elements lack; those of unknown length, as of a live stream, are looked into."""
    place = missing = 0
    while place + 2 <= len(held):
        at = place + _width(held[place])
        width = _width(held[at]) if at < len(held) else 9
        if at > place + 4 or width > 8:
            break
        size = int.from_bytes(held[at : at + width], "big") & ((1 << 7 * width) - 1)
        unknown = size == (1 << 7 * width) - 1
        last = held[place:at] == SEGMENT and not unknown  # the end of the file proper
        place = at + width + (0 if unknown else size)
        missing = max(missing, place - len(held))
        if last:
            break
    return missing


def _width(first: int) -> int:
    """Return the bytes of a number of variable length, 9 where there is none."""
    return 9 - first.bit_length()


def _boxes(held: bytes, place: int, end: int) -> Iterator[Chunk]:
    """Return the boxes of an MP4 file; one of length 0 goes to the end."""
    while place + 8 <= end:
        size, head = int.from_bytes(held[place : place + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(held[place + 8 : place + 16], "big"), 16
        name = held[place + 4 : place + 8]
        if size == 0:
            size = end - place
        if size < head:
            return
        yield name, place + head, size - head
        place += size


def _mp4(held: bytes) -> int:
    """Return what boxes lack; 1 where the samples of the last fragment are not there at all."""
    last = b""
    for name, place, size in _boxes(held, 0, len(held)):
        if place + size > len(held):
            return place + size - len(held) if name in BOXES else 0  # what is no box follows the last one
        last = name if name in {b"moof", b"mdat"} else last
    return int(last == b"moof")


INNER = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Where in a box the number of samples is."""


def _refuse_forged(held: bytes, path: Place) -> None:
    """Refuse an MP4 file whose tables state more samples than it has bytes, for which FFmpeg asks for the memory."""
    ranges = [(0, len(held))]
    while ranges:
        for name, place, size in _boxes(held, *ranges.pop()):
            end = min(place + size, len(held))
            if name in INNER:
                ranges.append((place, end))
            if name == b"cmov":
                raise DataError(f"{path}: has a compressed header, which is not read: convert it with ffmpeg -c copy")
            at = place + COUNTS.get(name, 0)
            count = int.from_bytes(held[at : at + 4], "big") if name in COUNTS else 0
            if count > len(held):
                raise DataError(f"{path}: states {count:,} samples and has {len(held):,} bytes", "damaged")


PLAIN = {"WAV", "W64", "AIFF", "AU", "CAF"}
"""Containers of sound that is not compressed, mostly."""
WALKS: dict[str, Callable[[bytes], int]] = {
    "WAV": _wav,
    "W64": _w64,
    "AIFF": _aiff,
    "AU": _au,
    "CAF": _caf,
    "Ogg": _ogg,
    "MP3": _mp3,
    "AVI": _avi,
    "MP4": _mp4,
    "Matroska": _matroska,
    "FLV": _flv,
}
"""By container, a function that returns how many bytes are not there. libFLAC itself refuses a file that is cut."""
