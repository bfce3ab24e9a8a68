"""Files of a data set: where they should be, and what is often there instead."""

from __future__ import annotations

from pathlib import Path

from cpsc_train.errors import UserError

LFS = b"version https://git-lfs"


def check_root(root: str) -> Path:
    """Return the folder of a data set.

    Raises
    ------
    UserError
        If it is not there.
    """
    path = Path(root)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder: say where the data set lies with --root")
    return path


def read_bytes(path: Path) -> bytes:
    """Return what a file holds.

    Raises
    ------
    UserError
        If it is missing, empty, or a pointer that Git LFS left in its place.
    """
    try:
        held = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not held:
        raise UserError(f"{path}: is empty")
    if held.startswith(LFS):
        raise UserError(f"{path}: is a pointer of Git LFS and not the file itself: fetch it with git lfs pull")
    return held


def read_text(path: Path) -> str:
    """Return a text file in UTF-8, without a byte-order mark.

    Raises
    ------
    UserError
        As `read_bytes`, and if it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start})") from None


def read_rows(path: Path, separator: str, columns: int) -> list[tuple[int, list[str]]]:
    """Return the lines of a list file that are not blank, each as its number from 1 on and its fields.

    Raises
    ------
    UserError
        As `read_text`, and if a line has another number of fields than `columns`.
    """
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(separator)]
        if len(fields) != columns or not all(fields):
            raise UserError(f"{path}:{number}: must hold {columns} fields divided by {separator!r}, got {line[:80]!r}")
        found.append((number, fields))
    if not found:
        raise UserError(f"{path}: lists nothing")
    return found


def inside(root: Path, name: str, file: Path, number: int) -> Path:
    """Return ``root / name``, where `name` stands in line `number` of a list file.

    Raises
    ------
    UserError
        If it leads out of `root`.
    """
    path = root / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{file}:{number}: {name!r} leads out of {root}")
    return path
