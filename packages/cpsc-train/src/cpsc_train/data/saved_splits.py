"""Files of a division: sample ids by part as JSON, which people edit, or in arrays, which a run keeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import parse_json
from cpsc_train.data.storage.npz import narrow, read_npz
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import DataError, UserError, reason
from cpsc_train.reading import read_file
from cpsc_train.writing import replacing, write

Rows = NDArray[np.int64]
ARRAYS = ".npz"
"""Suffix of a division in arrays: the ids of all samples, and the rows of each part; all other files are JSON."""
IDS = "ids"


def write_parts(path: Path, parts: Mapping[str, Rows], ids: Sequence[str]) -> None:
    """Write the rows of each part, with the id of each sample of the data set.

    Raises UserError if the file cannot be written, or is a link.
    """
    strings = StringArray.of(ids)
    if path.suffix != ARRAYS:
        write(path, json.dumps({part: list(strings.take(rows)) for part, rows in parts.items()}, indent=1) + "\n")
        return
    rows = {part: narrow(rows) for part, rows in parts.items()}
    with replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **strings.to_arrays(IDS), **rows)


def read_parts(path: Path, names: Iterable[str], ids: Sequence[str]) -> dict[str, Rows]:
    """Return the rows of each part in a data set with these ids, whatever their order in the file.

    Raises UserError if the file cannot be read, has an empty part, or an id that is not among `ids` or is listed twice.
    """
    saved, parts = _read(path, list(names))
    strings = StringArray.of(ids)
    if saved != strings:
        row_of = strings.find(saved)
        for part, rows in parts.items():
            absent = rows[row_of[rows] < 0]
            if len(absent):
                count = f" (of {len(rows):,} ids, {len(absent):,} are not)" if len(absent) > 1 else ""
                raise UserError(f"{path}: id {saved[absent[0]]!r:.80} of {part} is not in the data set{count}")
        parts = {part: row_of[rows] for part, rows in parts.items()}
    times = np.bincount(np.concatenate(list(parts.values())), minlength=1)
    if times.max() > 1:
        row = int(times.argmax())
        first, second, *_ = (part for part, rows in parts.items() for _ in range(int((rows == row).sum())))
        where = f"in both {first} and {second}" if first != second else f"listed twice in {first}"
        raise UserError(f"{path}: id {strings[row]!r:.80} is {where}")
    for part, rows in parts.items():
        if not len(rows):
            raise UserError(f"{path}: {part} lists nothing")
    return parts


def read_ids(path: Path, part: str) -> StringArray:
    """Return the ids of a part, in order. Raises UserError if the file cannot be read, or has no such part."""
    saved, parts = _read(path, [part])
    return saved.take(parts[part])


def _read(path: Path, names: Sequence[str]) -> tuple[StringArray, dict[str, Rows]]:
    """Return all ids of a file, and by part the places of its ids among them."""
    try:
        if path.suffix == ARRAYS:
            arrays = read_npz(path)
            saved = StringArray.from_arrays(arrays, IDS)
            return saved, {name: _rows(name, arrays[name], len(saved)) for name in names}
        named = parse_json(read_file(path))
    except DataError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: is not a readable list of splits ({reason(error)})") from None
    if not isinstance(named, dict) or not set(names) <= set(named):
        raise DataError(f"{path}: must be a table with a list of ids for each of {', '.join(names)}")
    listed = {name: _ids(path, name, named[name]) for name in names}
    ends = np.cumsum([0, *map(len, listed.values())]).tolist()
    rows = {name: np.arange(a, b) for name, a, b in zip(listed, ends[:-1], ends[1:], strict=True)}
    return StringArray.of(chain.from_iterable(listed.values())), rows


def _ids(path: Path, name: str, ids: Any) -> list[str]:
    if not isinstance(ids, list):
        raise DataError(f"{path}: {name} must be a list of ids")
    for one in ids:
        if not isinstance(one, str):
            raise DataError(f"{path}: {name} must list ids in quotation marks, got {one!r:.40}")
    return ids


def _rows(name: str, rows: NDArray[Any], count: int) -> Rows:
    if rows.dtype.kind not in "iu" or rows.ndim != 1:
        raise ValueError(f"{name} must hold row numbers, got {rows.dtype} of shape {rows.shape}")
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise ValueError(f"{name} must hold rows below {count}, got {rows.min()} to {rows.max()}")
    return rows.astype(np.int64, copy=False)
