"""Tables of text, ``.csv``, ``.tsv`` and ``.jsonl``, read into columns, and the kinds of their cells."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import parse_json
from cpsc_train.data.storage.files import Place, read_text
from cpsc_train.errors import DataError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
TABLES = (*SEPARATORS, ".jsonl")
"""Suffixes of tables."""
NUMBERED = re.compile(r"(.*?[^0-9._:-])[._:-]?([0-9]{1,9})")
"""Column of a vector: the name of the modality and a number, as in ``image_0``, ``image.1`` or ``image2``."""


def read_table(path: Path) -> dict[str, NDArray[Any]]:
    """Return the columns of a table as arrays of strings, (N,), by name.

    The first line of ``.csv`` and ``.tsv`` names the columns; each line of ``.jsonl`` is an object with the same keys.
    Raises DataError if it is missing or not UTF-8, a line has another number of columns or other keys, or a name is
    repeated.
    """
    return {name: np.array(column) for name, column in read_columns(path).items()}


def read_columns(path: Path, *, sparse: bool = False) -> dict[str, list[str]]:
    """Return the columns of a table as lists of N strings, by name, as `read_table` does.

    With `sparse`, the objects of ``.jsonl`` may have different keys; a cell without one is empty. A list of numbers
    becomes these numbers, separated by spaces.
    """
    text = read_text(path)
    rows = _objects(path, text, sparse=sparse) if path.suffix == ".jsonl" else _lines(path, text)
    names, *rows = rows
    if not rows:
        raise DataError(f"{path}: has a header and no rows", "empty")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: has two columns named {twice!r}", "bad line")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def vectors(columns: dict[str, NDArray[Any]], path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the numbered columns of a table as vectors, (N, d), by modality; an empty cell is NaN.

    Raises DataError if two columns have the same number, or a cell is not a number; names the row.

    Examples
    --------
    >>> vectors({"id": np.array(["a"]), "x_1": np.array(["2"]), "x_0": np.array([""])}, Path("x.csv"))
    {'x': array([[nan,  2.]], dtype=float32)}
    """
    places: dict[str, dict[int, str]] = {}
    for name in columns:
        match = NUMBERED.fullmatch(name)
        if match is not None:
            column = places.setdefault(match[1], {}).setdefault(int(match[2]), name)
            if column != name:
                raise DataError(f"{path}: columns {column!r} and {name!r} have the same number", "bad line")
    return {
        modality: np.stack([_numbers(columns[names[n]], names[n], path) for n in sorted(names)], 1)
        for modality, names in places.items()
    }


def _numbers(column: NDArray[Any], name: str, path: Path) -> NDArray[np.float32]:
    cells = np.where(np.char.strip(column) == "", "nan", column)
    try:
        with np.errstate(over="ignore"):  # an infinite value is refused later, with its place
            return cells.astype(np.float64).astype(np.float32)
    except ValueError:
        row, cell = next((row, cell) for row, cell in enumerate(cells) if not _is_number(cell))
        raise DataError(f"{path}: row {row}, column {name!r} must be a number, got {cell[:40]!r}", "bad line") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _lines(path: Path, text: str) -> list[list[str]]:
    try:
        rows = [
            row
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=SEPARATORS[path.suffix], strict=True)
            if row
        ]
    except csv.Error as error:
        raise DataError(f"{path}: is not a readable table ({error})", "damaged") from None
    if not rows:
        raise DataError(f"{path}: lists nothing", "empty")
    for number, row in enumerate(rows, -1):
        if len(row) != len(rows[0]):
            raise DataError(f"{path}: row {number} must have {len(rows[0])} columns, got {len(row)}", "bad line")
    return [[cell.strip() for cell in row] for row in rows]


def _objects(path: Path, text: str, *, sparse: bool) -> list[list[str]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise TypeError("not an object")  # noqa: TRY301
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}:{number}: must be a JSON object ({error})", "bad line") from None
        rows.append(row)
        if not sparse and list(row) != list(rows[0]):
            raise DataError(
                f"{path}:{number}: must have the keys {', '.join(rows[0])}, got {', '.join(row)}", "bad line"
            )
    if not rows:
        raise DataError(f"{path}: lists nothing", "empty")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [names, *([_as_text(row.get(name)) for name in names] for row in rows)]


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


Kind = Literal["image", "sound", "video", "text", "vector"]
"""Kind of the values of a column; those of the first three are files, or numbers."""
Cell = Place | str | NDArray[np.float32]
"""A file, a text, or numbers (d,)."""
COLUMNS = ("id", "label", "split", "group")
"""Names of the columns that are not modalities."""
SEPARATOR = re.compile(r"\s*[,;\s]\s*")


def read_cell(kind: Kind, value: object, folder: Place) -> Cell | None:
    """Return the content of a cell; None if it is empty.

    Raises DataError if a vector has a value that is not a number, a path is not a valid file name, or a value of JSON
    is of another type.

    - `kind`: what the column holds. A cell of numbers is read as such, whatever the kind, except in a column of texts.
    - `value`: text of a cell; or a value of JSON: a text, a number, a list of numbers, or null.
    - `folder`: folder of the table, to which paths are relative.

    Examples
    --------
    >>> from pathlib import Path
    >>> read_cell("vector", "1 2.5", Path("data")), read_cell("text", " a cat ", Path("data"))
    (array([1. , 2.5], dtype=float32), 'a cat')
    >>> read_cell("image", "images/1.png", Path("data")).as_posix(), read_cell("image", " ", Path("data"))
    ('data/images/1.png', None)
    """
    if not isinstance(value, str):
        return _of_json(kind, value)
    text = value.strip()
    if not text:
        return None
    if kind == "text":
        return text
    found = numbers(text)
    if found is not None and (kind == "vector" or len(found) > 1):
        return found
    if kind == "vector":
        raise DataError(f"must hold numbers separated by spaces, got {text[:40]!r}", "bad cell")
    return _place(text, folder)


def numbers(text: str) -> NDArray[np.float32] | None:
    """Return numbers separated by spaces, commas or semicolons, (d,); None for any other text.

    Examples
    --------
    >>> numbers("1, 2"), numbers("cat"), numbers("")
    (array([1., 2.], dtype=float32), None, None)
    """
    try:
        with np.errstate(over="ignore"):
            return np.array([float(one) for one in SEPARATOR.split(text.strip())], dtype=np.float64).astype(np.float32)
    except ValueError:
        return None


def modality_columns(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the columns of each modality in a header: one, or for a vector several that are numbered.

    Examples
    --------
    >>> modality_columns(["id", "photo", "accel.1", "accel.0", "label"])
    {'photo': ['photo'], 'accel': ['accel.0', 'accel.1']}
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        if name not in COLUMNS:
            match = NUMBERED.fullmatch(name)
            groups.setdefault(match[1] if match else name, []).append(name)
    columns: dict[str, list[str]] = {}
    for stem, members in groups.items():
        if len(members) == 1 or stem in members:
            columns |= {name: [name] for name in members}
        else:
            columns[stem] = sorted(members, key=_number)
    return columns


def _number(name: str) -> int:
    match = NUMBERED.fullmatch(name)
    return int(match[2]) if match else -1


def _of_json(kind: Kind, value: object) -> Cell | None:
    if value is None:
        return None
    values: Any = value if isinstance(value, list) else [value]
    if kind == "text" or any(isinstance(one, bool) or not isinstance(one, int | float) for one in values):
        expected = "text" if kind == "text" else "text, a number or a list of numbers"
        raise DataError(f"must hold {expected}, got {str(value)[:40]!r}", "bad cell")
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float64).astype(np.float32) if values else None


def _place(text: str, folder: Place) -> Place:
    """Return the file at a path that is absolute, or relative to `folder`."""
    try:
        valid = "\0" not in text and all(len(os.fsencode(part)) <= 255 for part in PurePath(text).parts)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold
        valid = False
    if not valid:
        raise DataError(f"{text[:80]!r} is not a valid file name", "bad path")
    return folder / text
