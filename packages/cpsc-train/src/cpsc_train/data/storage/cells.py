"""Cells of a table of samples with a column for each modality: a path, a text, numbers, or nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.storage.files import Place
from cpsc_train.data.storage.tables import NUMBERED
from cpsc_train.errors import DataError

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
