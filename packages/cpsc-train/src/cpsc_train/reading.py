"""Files that are read as a whole: regular ones of bounded size, whoever wrote them.

Run folders and configurations come from elsewhere, too: a pipe in one would never end, a device would fill the memory.
"""

from __future__ import annotations

import stat
from pathlib import Path

from cpsc_train.errors import DataError, reason

LARGEST = 2**31
"""Bytes of a file that is read as a whole, at most."""


def check_file(path: Path, *, largest: int | None = LARGEST) -> None:
    """Refuse what is no regular file, such as a pipe, which would never end, and one of more than `largest` bytes.

    Raises
    ------
    DataError
        If it is one of these.
    OSError
        If it is not there.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise DataError(f"{path}: must be a file, got a folder", "unreadable")
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path}: must be a file, got a pipe, socket or device", "unreadable")
    if largest is not None and found.st_size > largest:
        raise DataError(f"{path}: must have at most {largest:,} bytes, got {found.st_size:,}", "wrong size")


def read_file(path: Path) -> bytes:
    """Return what a file holds.

    Raises
    ------
    DataError
        If it is no regular file, too large, or cannot be read.
    FileNotFoundError
        If it is missing, which means something else in each place.
    """
    try:
        check_file(path)
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})", "unreadable") from None
