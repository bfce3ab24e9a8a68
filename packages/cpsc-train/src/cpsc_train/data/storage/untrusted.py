"""Rules for files that somebody else made: their place, kind and size are checked before they are decoded.

================ ==================================================================================================
place            a name in a list stays below the folder of the data set (`inside`); links of HDF5 and storage of its
                 arrays outside the file are refused (`stored_array`)
kind             a regular file (`check_file`); pictures and containers of known formats only (`PICTURES`,
                 `CONTAINERS`, `SOUNDS`); members of an archive that are stored or deflated (`check_archive`); arrays of
                 HDF5 of numbers, without filters that are plugins
size             files that are read whole: `LARGEST`; pictures and frames: `MOST_PIXELS`; streams, packets and seconds
                 of a container: `MOST_STREAMS`, `MOST_PACKETS`, `LONGEST`; all frames of one: `MOST_SHOWN`; what
                 decompression can make: `DEFLATE` times what lies there, over all members together; lists of MATLAB:
                 `LONGEST_LIST`, in a process of `READER_MEMORY`
================ ==================================================================================================

The readers of this folder ask here and keep no rules of their own.
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
"""Pixels of an image or a frame, at most."""
LONGEST_NAME = 255
"""Bytes of a part of a path, on all common file systems; the question whether a longer one is there is an error."""
DEFLATE = 1032
"""By how much deflate makes data smaller, at most."""
LARGEST_CHUNK = 2**28
"""Bytes of a chunk of HDF5, which is decompressed as a whole, at most."""
PICTURES = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
"""Formats of Pillow that are opened, whatever the suffix says: downloaded pictures often have a wrong one. The others
start programs (EPS), or nothing here is made of them."""
CONTAINERS = MappingProxyType(
    {
        **dict.fromkeys((".m4a", ".mov", ".mp4"), ("MP4", "mov")),
        **dict.fromkeys((".mkv", ".webm"), ("Matroska", "matroska")),
        ".avi": ("AVI", "avi"),
        ".flv": ("FLV", "flv"),
    }
)
"""By suffix: the container that the first bytes must announce, and the one format of FFmpeg that is tried. What FFmpeg
would guess from the content can be a playlist, which opens other files and connections."""
SOUNDS = frozenset({"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"})
"""Formats of libsndfile, whatever the suffix says: those of which it is known whether they are cut off."""
MOST_STREAMS = 64
"""Streams of a container, at most."""
MOST_PACKETS = 2**22
"""Packets of a container, at most: 3,600 s of frames at 240 Hz beside sound in packets of 1.2 ms."""
LONGEST = 3600.0
"""Seconds that a recording may last."""
MOST_SHOWN = 2**30
"""Pixels of all frames of a recording that are decoded at once, at most: 3 GB."""
LONGEST_LIST = 100_000
"""Values of a variable in a list of samples of MATLAB, at most; the largest we know of has 5,285."""
LARGEST_LIST = 2**25
"""Bytes of such a list, as a file and as text, at most."""
READER_MEMORY = 2**31
"""Bytes that the process that reads such a list may take."""
FILTERS = frozenset({1, 2, 3})
"""Filters of HDF5 that are part of it: deflate, shuffle, Fletcher's checksum."""

P = TypeVar("P", bound=Any)


def inside(root: P, name: str, where: str) -> P:
    """Return ``root / name``, where `name` stands in a list file.

    Raises
    ------
    DataError
        If it leads out of `root`, or can be the name of no file; `where` names file and line.
    """
    path = PurePath(name)
    if path.anchor or ".." in path.parts:
        raise DataError(f"{where}: {name!r} leads out of {root}", "bad path")
    if not all(map(_can_be_a_name, path.parts)):
        raise DataError(f"{where}: {name[:80]!r} can be the name of no file", "bad path")
    joined: P = root / name
    return joined


def _can_be_a_name(part: str) -> bool:
    try:
        return "\0" not in part and len(os.fsencode(part)) <= LONGEST_NAME
    except UnicodeEncodeError:  # half a character, which JSON can hold
        return False


def check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Check what the members of a ZIP archive of arrays claim.

    They must be ``.npy`` files of different names, stored or deflated, and together no larger than the archive of
    `size` bytes can hold.

    Raises
    ------
    ValueError
        If one is anything else.
    """
    members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
        raise ValueError("has two members of one name")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise ValueError(f"holds {member.filename[:80]!r}, which is no .npy file")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"compresses {member.filename[:80]!r} in another way than deflate")
    if sum(member.compress_size for member in members) > size:
        raise ValueError("has members that overlap")
    if sum(member.file_size for member in members) > DEFLATE * size:
        raise ValueError("claims more than it holds")


def stored_array(file: Any, name: str | Any) -> Any:
    """Return an array of an open HDF5 file, by name or reference, of which nothing is read yet.

    Its storage must lie in the file itself, and its size be one that this storage can hold.

    Raises
    ------
    ValueError
        If it is a link, virtual, of other than numbers or references, compressed by a plugin, or claims too much.
    """
    import h5py  # noqa: PLC0415  # an extra; the file is open

    if isinstance(name, str) and not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link")  # noqa: TRY004  # of the file, not of the caller
    array = file[name]
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"{name} is no array")  # noqa: TRY004
    plan = array.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        raise ValueError(f"{name} is stored in another file")
    if array.dtype.kind not in "biuf" and h5py.check_ref_dtype(array.dtype) is not h5py.Reference:
        raise ValueError(f"{name} holds {array.dtype} and no numbers")
    filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
    if filters - FILTERS:
        raise ValueError(f"{name} is compressed in another way than deflate")
    there = min(array.id.get_storage_size(), file.id.get_filesize())
    if _bytes(array, array.shape) > there * (DEFLATE if filters else 1):
        raise ValueError(f"{name} claims more than it holds")
    if array.chunks is not None and _bytes(array, array.chunks) > LARGEST_CHUNK:
        raise ValueError(f"{name} has chunks of {_bytes(array, array.chunks):,} bytes")
    return array


def _bytes(array: Any, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * int(array.dtype.itemsize)
