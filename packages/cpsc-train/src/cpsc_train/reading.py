"""Reading of whole files: regular ones of bounded size.

Run folders and configurations may come from elsewhere: a pipe in one would never end, a device would fill the memory.
"""

from __future__ import annotations

import stat
from pathlib import Path

from cpsc_train.errors import DataError, reason

LARGEST = 2**31
"""Largest size of a file that is read as a whole, in bytes."""


def check_file(path: Path, *, largest: int | None = LARGEST) -> None:
    """Refuse a path that is not a regular file, and a file of more than `largest` bytes.

    Raises DataError if it is refused. Raises OSError if it is missing.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path}: must be a file, got a folder", "unreadable")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: must be a file, got a pipe, socket or device", "unreadable")
    if largest is not None and status.st_size > largest:
        raise DataError(f"{path}: must have at most {largest:,} bytes, got {status.st_size:,}", "wrong size")


def read_file(path: Path) -> bytes:
    """Return the content of a file.

    Raises DataError if it is not a regular file, too large, or cannot be read. Raises FileNotFoundError if it is
    missing, which callers handle.
    """
    try:
        check_file(path)
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})", "unreadable") from None
