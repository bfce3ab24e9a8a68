"""Files of a data set: where they should be, and what is often there instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from cpsc_train.data.faults import Faults
from cpsc_train.data.storage.packed import open_packed
from cpsc_train.errors import DataError, UserError, reason
from cpsc_train.reading import check_file

LFS = b"version https://git-lfs"

T = TypeVar("T")


class Place(Protocol):
    """What adapters use of a path: a file or folder on the disk, or a packed one."""

    @property
    def name(self) -> str:
        """Last part."""

    @property
    def stem(self) -> str:
        """Last part, without what follows its last dot."""

    @property
    def suffix(self) -> str:
        """The last dot and what follows it."""

    @property
    def parent(self) -> Self:
        """The folder it is in."""

    def __truediv__(self, other: str, /) -> Self: ...

    def __lt__(self, other: Any, /) -> bool: ...

    def is_dir(self) -> bool:
        """Whether it is a folder."""

    def is_file(self) -> bool:
        """Whether it is a file."""

    def iterdir(self) -> Iterator[Self]:
        """Return what lies in the folder."""

    def read_bytes(self) -> bytes:
        """Return what the file holds."""


def check_root(root: str) -> Place:
    """Return the folder of a data set, or the packed one that lies there or at an address such as ``s3://…``.

    Raises
    ------
    UserError
        If it is not there.
    """
    packed = open_packed(root)
    if packed is not None:
        return packed
    path = Path(root)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder: say where the data set lies with --root")
    return path


_noting: ContextVar[dict[str, Place] | None] = ContextVar("noting", default=None)


@contextmanager
def noted() -> Iterator[ValuesView[Place]]:
    """Note which files are read; what is given grows as they are."""
    seen: dict[str, Place] = {}
    token = _noting.set(seen)
    try:
        yield seen.values()
    finally:
        _noting.reset(token)


def read_bytes(path: Place) -> bytes:
    """Return what a file holds.

    Raises
    ------
    DataError
        If it is missing, empty, no regular file or too large, or a pointer that Git LFS left in its place.
    """
    seen = _noting.get()
    if seen is not None:
        seen[str(path)] = path
    try:
        if isinstance(path, Path):
            check_file(path)
        held = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "missing") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})", "unreadable") from None
    if not held:
        raise DataError(f"{path}: is empty", "empty")
    if held.startswith(LFS):
        raise DataError(
            f"{path}: is a pointer of Git LFS and not the file itself: fetch it with git lfs pull", "pointer of Git LFS"
        )
    return held


def read_text(path: Place) -> str:
    """Return a text file in UTF-8, without a byte-order mark.

    Raises
    ------
    DataError
        As `read_bytes`, and if it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start})", "bad encoding") from None


def read_list(
    path: Place,
    parse: Callable[[str, int], T | None],
    faults: Faults,
    *,
    header: Callable[[str], bool] | None = None,
) -> list[T]:
    """Return what the lines of a list file say; a line that cannot be used is a fault, a blank one nothing.

    Parameters
    ----------
    path
        The file, in UTF-8.
    parse
        From a line and its number from 1 on to what it says, or ``None`` if it is left out.
    faults
        Where faults, and a byte-order mark or a header, are noted down.
    header
        Whether a first line is a header, which some copies have.

    Raises
    ------
    UserError
        If the file is missing, lists nothing, or is not UTF-8.
    """
    text = read_text(path)
    if path.read_bytes().startswith(b"\xef\xbb\xbf"):
        faults.note(f"{path}: begins with a byte-order mark, which is left out", "byte-order mark")
    found: list[T] = []
    lines = re.split(r"\r\n|\n|\r", text)  # and not at the other signs that Unicode counts as ends of lines
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if header is not None and header(line):
            if number == 1:
                faults.note(f"{path}: has a header, {line[:80]!r}, which is left out", "header")
            else:
                faults.add(f"{path.name}:{number}", DataError(f"{path}:{number}: is a second header", "mixed headers"))
            continue
        try:
            said = parse(line, number)
        except DataError as error:
            faults.add(f"{path.name}:{number}", error)
            continue
        if said is not None:
            found.append(said)
    if not any(line.strip() for line in lines):
        raise DataError(f"{path}: lists nothing", "empty")
    return found


def fields(line: str, separator: str | None, columns: int, where: str) -> list[str]:
    """Return the fields of a line, without blanks at their ends.

    Parameters
    ----------
    line, separator
        What to divide, and at what; ``None``: at blanks.
    columns
        How many fields there must be.
    where
        File and number of the line.

    Raises
    ------
    DataError
        If there are more or fewer, or one is empty.
    """
    found = [field.strip() for field in line.split(separator)]
    if len(found) != columns or not all(found):
        divided = "blanks" if separator is None else repr(separator)
        raise DataError(f"{where}: must hold {columns} fields divided by {divided}, got {line[:80]!r}", "bad line")
    return found
