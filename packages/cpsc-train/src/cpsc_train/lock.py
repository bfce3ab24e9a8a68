"""The lock of a folder: one process writes into it at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cpsc_train.errors import UserError
from cpsc_train.writing import appending

FILE = ".lock"


@contextmanager
def locked(folder: Path, *, busy: str = "training in it") -> Iterator[None]:
    """Keep other processes from writing into `folder`.

    The operating system releases the lock when the process ends, however it ends; processes forked from it do not hold
    it. On file systems without locks, such as some network file systems, nothing is locked. Raises UserError if another
    process holds the lock, or the lock file is a link or cannot be written.

    - `folder`: an existing folder.
    - `busy`: what the process does in the folder, for the error message of another one.
    """
    path = folder / FILE
    appending(path).close()  # names the folder where it is read-only, and refuses a link
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"{folder}: another process is {busy}: wait for its end, or choose another folder") from None
    except OSError:  # the file system has no locks
        pass
    try:
        yield
    finally:
        lock.release()
