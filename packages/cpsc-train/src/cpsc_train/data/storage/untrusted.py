"""Limits and checks for files from unknown sources, applied before they are decoded.

place
    A name in a list stays below the folder of the data set (`inside`); links in HDF5, and storage of its arrays outside
    the file, are refused (`stored_array`).
kind
    Regular files (`check_file`); images and containers of listed formats (`PICTURES`, `CONTAINERS`, `SOUNDS`); members
    of archives that are stored or deflated (`check_archive`); numeric arrays of HDF5 without filters from plugins.
size
    Files read at once: `LARGEST`; images and frames: `MOST_PIXELS`; streams, packets and seconds of a container:
    `MOST_STREAMS`, `MOST_PACKETS`, `LONGEST`; all frames of a recording: `MOST_SHOWN`; decompressed data: `DEFLATE`
    times the file, over all members; lists of MATLAB: `LONGEST_LIST`, in a process of `READER_MEMORY`.

Readers in this package take their limits from here.
"""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, TypeVar

from cpsc_train.errors import DataError

MOST_PIXELS = 2**26
"""Largest number of pixels of an image or a frame."""
LONGEST_NAME = 255
"""Largest number of bytes of a part of a path on common file systems."""
DEFLATE = 1032
"""Largest compression ratio of deflate."""
LARGEST_CHUNK = 2**28
"""Largest number of bytes of a chunk of HDF5, which is decompressed at once."""
PICTURES = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
"""Formats of Pillow that are opened, whatever the suffix, which is often wrong in downloaded images. Others start
programs (EPS) or are not needed."""
CONTAINERS = MappingProxyType(
    {
        **dict.fromkeys((".m4a", ".mov", ".mp4"), ("MP4", "mov")),
        **dict.fromkeys((".mkv", ".webm"), ("Matroska", "matroska")),
        ".avi": ("AVI", "avi"),
        ".flv": ("FLV", "flv"),
    }
)
"""By suffix: the container that the first bytes must announce, and the only demuxer of FFmpeg that is tried. A format
guessed from the content could be a playlist, which opens other files and connections."""
SOUNDS = frozenset({"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"})
"""Formats of libsndfile that are read, whatever the suffix: those whose truncation can be detected."""
MOST_STREAMS = 64
"""Largest number of streams of a container."""
MOST_PACKETS = 2**22
"""Largest number of packets of a container: 3,600 s of frames at 240 Hz and sound in packets of 1.2 ms."""
LONGEST = 3600.0
"""Largest number of seconds of a recording."""
MOST_SHOWN = 2**30
"""Largest number of pixels of all frames of a recording that are decoded at once: 3 GB."""
LONGEST_LIST = 100_000
"""Largest number of values in a list of samples of MATLAB; the largest known list has 5,285."""
LARGEST_LIST = 2**25
"""Largest number of bytes of such a list, as a file and as text."""
READER_MEMORY = 2**31
"""Bytes of memory of the process that reads such a list."""
FILTERS = frozenset({1, 2, 3})
"""Filters built into HDF5: deflate, shuffle and Fletcher's checksum."""

P = TypeVar("P", bound=Any)


def inside(root: P, name: str, where: str) -> P:
    """Return ``root / name`` for a name from a list file.

    Raises DataError if it leads out of `root` or is not a valid file name; `where` gives file and line.
    """
    path = PurePath(name)
    if path.anchor or ".." in path.parts:
        raise DataError(f"{where}: {name!r} leads out of {root}", "bad path")
    if not all(map(_is_name, path.parts)):
        raise DataError(f"{where}: {name[:80]!r} is not a valid file name", "bad path")
    joined: P = root / name
    return joined


def _is_name(part: str) -> bool:
    try:
        return "\0" not in part and len(os.fsencode(part)) <= LONGEST_NAME
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold
        return False


def check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Check the members of a ZIP archive of arrays.

    They must be ``.npy`` files of different names, stored or deflated, and together no larger than an archive of `size`
    bytes can hold. Raises ValueError if one is not.
    """
    members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
        raise ValueError("has two members of one name")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise ValueError(f"holds {member.filename[:80]!r}, which is not a .npy file")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"compresses {member.filename[:80]!r} in another way than deflate")
    if sum(member.compress_size for member in members) > size:
        raise ValueError("has members that overlap")
    if sum(member.file_size for member in members) > DEFLATE * size:
        raise ValueError("states a larger size than its content")


def stored_array(file: Any, name: str | Any) -> Any:
    """Return an array of an open HDF5 file, by name or reference, without reading it.

    It must be stored in the file itself, and be no larger than that storage can hold. Raises ValueError if it is a link
    or virtual, holds neither numbers nor references, is compressed by a plugin, or claims too much.
    """
    import h5py  # noqa: PLC0415  # an extra; the file is open

    if isinstance(name, str) and not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link")  # noqa: TRY004  # of the file, not of the caller
    array = file[name]
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"{name} is not an array")  # noqa: TRY004
    plan = array.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        raise ValueError(f"{name} is stored in another file")
    if array.dtype.kind not in "biuf" and h5py.check_ref_dtype(array.dtype) is not h5py.Reference:
        raise ValueError(f"{name} holds {array.dtype} and no numbers")
    filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
    if filters - FILTERS:
        raise ValueError(f"{name} is compressed in another way than deflate")
    stored = min(array.id.get_storage_size(), file.id.get_filesize())
    if _bytes(array, array.shape) > stored * (DEFLATE if filters else 1):
        raise ValueError(f"{name} states a larger size than its content")
    if array.chunks is not None and _bytes(array, array.chunks) > LARGEST_CHUNK:
        raise ValueError(f"{name} has chunks of {_bytes(array, array.chunks):,} bytes")
    return array


def _bytes(array: Any, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * int(array.dtype.itemsize)
