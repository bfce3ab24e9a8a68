"""Reading the files of a data set, and errors for what often lies in their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from cpsc_train.data.faults import Faults
from cpsc_train.data.storage.packed import Packed, open_packed
from cpsc_train.errors import DataError, UserError, reason
from cpsc_train.reading import check_file

LFS = b"version https://git-lfs"
BOM = "\ufeff"
Place = Path | Packed
"""A file or folder of a data set, on the disk or packed."""

T = TypeVar("T")


def check_root(root: str) -> Place:
    """Return the folder of a data set, or the packed data set there or at an address such as ``s3://…``.

    Raises UserError if it does not exist.
    """
    packed = open_packed(root)
    if packed is not None:
        return packed
    path = Path(root)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder: set the folder of the data set with --root")
    return path


_recorded: ContextVar[dict[str, Place] | None] = ContextVar("recorded", default=None)


@contextmanager
def recorded() -> Iterator[ValuesView[Place]]:
    """Record which files are read by `read_bytes`; the view grows as they are read."""
    files: dict[str, Place] = {}
    token = _recorded.set(files)
    try:
        yield files.values()
    finally:
        _recorded.reset(token)


def read_bytes(path: Place) -> bytes:
    """Return the content of a file.

    Raises DataError if it is missing, empty, not a regular file, too large, or a pointer of Git LFS.
    """
    files = _recorded.get()
    if files is not None:
        files[str(path)] = path
    try:
        if isinstance(path, Path):
            check_file(path)
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "missing") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})", "unreadable") from None
    if not content:
        raise DataError(f"{path}: is empty", "empty")
    if content.startswith(LFS):
        raise DataError(
            f"{path}: is a pointer of Git LFS and not the file itself: fetch it with git lfs pull", "pointer of Git LFS"
        )
    return content


def read_text(path: Place) -> str:
    """Return a text file in UTF-8, without a byte-order mark.

    Raises DataError as `read_bytes`, and if it is not UTF-8.
    """
    return _read_utf8(path).removeprefix(BOM)


def _read_utf8(path: Place) -> str:
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start})", "bad encoding") from None


def read_list(
    path: Place,
    parse: Callable[[str, int], T | None],
    faults: Faults,
    *,
    header: Callable[[str], bool] | None = None,
) -> list[T]:
    """Return the parsed lines of a list file; an unusable line is a fault, blank lines are skipped.

    Raises UserError if the file is missing, lists nothing, or is not UTF-8.

    - `path` and `faults`: the file, in UTF-8, and what receives faults and notes.
    - `parse`: called with a line and its number from 1 on; returns ``None`` for a line that is left out.
    - `header`: whether a first line is a header, which some copies have.
    """
    text = _read_utf8(path)
    if text.startswith(BOM):
        faults.note(f"{path}: begins with a byte-order mark, which is left out", "byte-order mark")
    # Unicode counts more characters as ends of lines, which are not meant here.
    lines = {n: line for n, line in enumerate(re.split(r"\r\n|\n|\r", text.removeprefix(BOM)), 1) if line.strip()}
    if not lines:
        raise DataError(f"{path}: lists nothing", "empty")
    rows = []
    for number, line in lines.items():
        if header is not None and header(line) and number == 1:
            faults.note(f"{path}: has a header, {line[:80]!r}, which is left out", "header")
            continue
        try:
            if header is not None and header(line):
                raise DataError(f"{path}:{number}: is a second header", "mixed headers")  # noqa: TRY301
            row = parse(line, number)
        except DataError as error:
            faults.add(f"{path.name}:{number}", error)
            continue
        if row is not None:
            rows.append(row)
    return rows


def fields(line: str, separator: str | None, columns: int, where: str) -> list[str]:
    """Return the fields of a line, stripped of whitespace; if `separator` is None, whitespace divides them.

    Raises DataError if there are not as many as `columns`, or one is empty; `where` gives file and line number.
    """
    values = [field.strip() for field in line.split(separator)]
    if len(values) != columns or not all(values):
        divided = "blanks" if separator is None else repr(separator)
        raise DataError(f"{where}: must hold {columns} fields divided by {divided}, got {line[:80]!r}", "bad line")
    return values
