"""Writing of files: atomically, never through a link, CSV without formulas, and locks of folders.

Run folders may come from elsewhere: a link in one must not lead a write to another file.
"""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from cpsc_train.errors import UserError, reason

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None  # type: ignore[assignment]

TAKEN = (errno.EACCES, errno.EAGAIN)
"""Errors of a lock that another process has."""
_JUNCTION = 0xA0000003
"""Tag of a junction, a link between folders that only Windows has, and that `Path.is_symlink` does not count."""
_WRITE = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a cell that spreadsheets read as a formula."""


def write(path: Path, content: str | bytes, *, below: Path | None = None, private: bool = False) -> None:
    """Write a file as `replacing` does; text as UTF-8, with surrogates as escapes."""
    with replacing(path, below=below, private=private) as file:
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, below: Path | None = None, private: bool = False) -> Iterator[IO[bytes]]:
    """Open a new file next to `path` that replaces it when the block ends, and is removed if the block fails.

    Raises UserError if it cannot be written, or is a link.

    - `path`: the file; an existing one is replaced.
    - `below`: a folder: no part of the path below it may be a link. If None, only the last part must not be one.
    - `private`: whether only the user may read it.
    """
    with saying(path):
        refuse_link(path, below=below)
        partial = path.with_name(f"{path.name[:200]}.partial")
        with os.fdopen(_create_locked(partial, 0o600 if private else 0o666), "wb") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if fcntl is None:  # an open file cannot be moved there
                    file.close()
                partial.replace(path)
            finally:
                if fcntl is None:
                    file.close()
                partial.unlink(missing_ok=True)


def _create_locked(path: Path, mode: int) -> int:
    """Create a file and lock it while it is open; one left by a killed process is removed.

    Raises UserError if another process is writing it.
    """
    while True:
        with suppress(FileExistsError):
            number = os.open(path, _WRITE | os.O_CREAT | os.O_EXCL, mode)
            _lock(number, path)
            if path.exists() and os.path.samestat(os.fstat(number), path.stat()):
                return number
            os.close(number)  # another process removed it before it was locked
            continue
        with suppress(OSError):  # a link, which is removed, or a file just moved into its place
            number = os.open(path, _WRITE)
            _lock(number, path)
            os.close(number)
        path.unlink(missing_ok=True)


def _lock(number: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            os.close(number)
            raise UserError(f"{path}: another process is writing it: wait for its end") from None
        # Some network file systems have no locks.


def appending(path: Path, *, below: Path | None = None) -> IO[str]:
    """Open a text file for appending, not through a link. Raises UserError if it cannot be written, or is a link."""
    with saying(path):
        refuse_link(path, below=below)
        number = os.open(path, _WRITE | os.O_CREAT | os.O_APPEND, 0o666)
        return os.fdopen(number, "a", encoding="utf-8", errors="backslashreplace")


def cut(path: Path, size: int) -> None:
    """Cut a file after `size` bytes, not through a link. Raises UserError if it cannot be written, or is a link."""
    with saying(path):
        refuse_link(path)
        with os.fdopen(os.open(path, _WRITE), "wb") as file:
            file.truncate(size)


def make_folder(path: Path, *, below: Path | None = None) -> None:
    """Create a folder and its parents; with `below`, no part of the path below that folder may be a link.

    Raises UserError if it cannot be created, or is a link.
    """
    with saying(path):
        if below is not None:
            refuse_link(path, below=below)
        path.mkdir(parents=True, exist_ok=True)


def refuse_link(path: Path, *, below: Path | None = None) -> None:
    """Refuse a path that is a link, or with `below` one that leads through a link below that folder.

    Raises UserError if it does.
    """
    parts = [path, *path.parents]
    for part in parts[:1] if below is None else parts[: len(path.relative_to(below).parts)]:
        if _is_link(part):
            raise UserError(f"{part}: is a link, through which nothing is written: remove it, or choose another place")


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink() or getattr(path.lstat(), "st_reparse_tag", 0) == _JUNCTION
    except OSError:  # there is nothing, or no folder above
        return False


def check_writable(path: Path, *, folder: bool = False) -> None:
    """Refuse a path that cannot be written to, before the work whose result goes there.

    Raises UserError if it is a link, of the other kind, or in a folder that is missing or read-only.

    - `path`: the file or folder to be created or replaced.
    - `folder`: whether it is a folder; an existing one may be a link, and its parents are created.
    """
    if not folder:
        refuse_link(path)
    if path.exists() and path.is_dir() is not folder:
        raise UserError(f"{path}: must be a {'folder' if folder else 'file'}, got a {'file' if folder else 'folder'}")
    above = path if folder else path.parent
    while folder and not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise UserError(f"{path}: cannot be written ({above} is not a folder)")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{path}: cannot be written (Permission denied)")


@contextmanager
def saying(path: Path) -> Iterator[None]:
    """Name the file that cannot be written. Raises UserError in place of an OSError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({reason(error)})") from None


def as_csv(rows: Iterable[Sequence[object]]) -> str:
    r"""Return rows as CSV.

    Text that a spreadsheet would read as a formula gets an apostrophe in front; numbers stay numbers.

    Examples
    --------
    >>> as_csv([["id", "gain"], ["=1+1", -0.5], ["-0.5", "+1e3"]])
    "id,gain\n'=1+1,-0.5\n-0.5,+1e3\n"
    """
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return table.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


FILE = ".lock"


@contextmanager
def locked(folder: Path, *, busy: str = "training in it", wait: bool = False) -> Iterator[None]:
    """Keep other processes from writing into `folder`.

    The operating system releases the lock when the process ends, however it ends; processes forked from it do not hold
    it. On file systems without locks, such as some network file systems, nothing is locked. Raises UserError if another
    process holds the lock, or the lock file is a link or cannot be written.

    - `folder`: an existing folder.
    - `busy`: what the process does in the folder, for the error message of another one.
    - `wait`: whether to wait until no other process holds the lock.
    """
    path = folder / FILE
    appending(path).close()  # names the folder where it is read-only, and refuses a link
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise UserError(f"{folder}: another process is {busy}: wait for its end, or choose another folder") from None
    except OSError:  # the file system has no locks
        pass
    try:
        yield
    finally:
        lock.release()
