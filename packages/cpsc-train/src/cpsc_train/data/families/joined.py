"""Arrays of one or several files, joined by the id of each sample or by row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.storage.npz import read_npz
from cpsc_train.data.storage.tables import TABLES, read_table, vectors
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import DataError

PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "calibration": ("calibration", "calib", "cal"),
    "test": ("test", "testing"),
}
"""Names of the parts of a division."""
PART_OF = {alias: part for part, aliases in PARTS.items() for alias in aliases}


class Names(NamedTuple):
    """Names of the arrays that are not modalities; of each, the first that exists is used."""

    id: tuple[str, ...]
    label: tuple[str, ...]
    split: tuple[str, ...]
    group: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """Content of a file."""

    path: Path
    """The file."""
    arrays: dict[str, NDArray[Any]]
    """By name; those with one row per sample, and others."""
    ids: StringArray | None
    """Id of each sample, (N,). If None, the file has none."""
    rows: int
    """N."""


@dataclass(frozen=True)
class Joined:
    """Arrays of all files, with one row per sample."""

    ids: StringArray
    """N unique ids."""
    arrays: dict[str, NDArray[Any]]
    places: dict[str, str]
    """By name: the array (N, ...), and its file and name for error messages."""
    rows: dict[str, NDArray[np.int64]]
    """By array: the row of each sample in its file, (N,), or −1."""
    absent: dict[str, NDArray[np.bool_]]
    """By array: true for samples that its file lacks, (N,); the values of these rows are meaningless."""
    others: dict[str, NDArray[Any]]
    """Arrays with another number of rows, by name."""

    def column(self, names: Sequence[str]) -> str | None:
        """Return the first of `names` that is an array. Raises DataError if its shape is not (N,)."""
        found = next((name for name in names if name in self.arrays), None)
        if found is not None and self.arrays[found].ndim != 1:
            raise DataError(
                f"{self.places[found]} must hold one value per row, got shape {self.arrays[found].shape}", "wrong size"
            )
        return found


def read_source(path: Path, names: Names) -> Source:
    """Read an ``.npz`` file or a table.

    The number of samples is the length of the ids, else of the labels, else the most common length of an array. Raises
    DataError if the file cannot be read, holds no array with rows, or an id twice.
    """
    if path.suffix in TABLES:
        columns = read_table(path)
        reserved = {name for some in names for name in some}
        arrays = {**columns, **vectors({n: column for n, column in columns.items() if n not in reserved}, path)}
    else:
        arrays = {name: _text(array) for name, array in read_npz(path).items()}
    id_name = next((name for name in names.id if name in arrays and arrays[name].ndim == 1), None)
    counted = [arrays[name] for name in names.label if name in arrays and arrays[name].ndim == 1]
    lengths = [len(array) for array in arrays.values() if array.ndim >= 2] or [len(a) for a in counted]
    if not lengths:
        raise DataError(f"{path}: holds no array with one row per sample (it holds: {', '.join(arrays)})", "no arrays")
    rows = len(counted[0]) if counted else max(lengths, key=lengths.count)
    if id_name is None:
        return Source(path, arrays, None, rows)
    ids = StringArray.of(map(str, arrays[id_name]))
    if (twice := ids.repeated()) is not None:
        raise DataError(f"{path}: {id_name} holds {twice!r} more than once", "duplicate id")
    return Source(path, arrays, ids, len(ids))


def _text(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind != "S":
        return array
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError:
        return array


def join(sources: Sequence[Source], repeated: Collection[str] = ()) -> Joined:
    """Join files by id if all of them have ids, else by row.

    Samples are those of all files, in the order of their first occurrence. Where several files hold an array with one
    value per sample, the first is used; those called `repeated` must agree. Raises DataError if only some files have
    ids, files without ids differ in their number of rows, two hold the same array with two or more dimensions, or they
    have different values of a `repeated` one.
    """
    without = [source for source in sources if source.ids is None]
    if without and len(without) < len(sources):
        raise DataError(
            f"{without[0].path}: has no ids to join it with the other files: name them with data.id", "no id"
        )
    if len({source.rows for source in without}) > 1:
        sizes = ", ".join(f"{source.path} {source.rows}" for source in without)
        raise DataError(f"files without ids must have the same number of rows, got {sizes}", "wrong size")
    names = [StringArray.numbered(source.rows) if source.ids is None else source.ids for source in sources]
    ids = names[0]
    for others in names[1:]:
        if others != ids:
            ids = StringArray.concatenated([ids, others.take(np.flatnonzero(ids.find(others) < 0))])
    joined = Joined(ids, {}, {}, {}, {}, {})
    for source, own in zip(sources, names, strict=True):
        rows = np.arange(len(ids)) if own == ids else own.find(ids)
        for name, array in source.arrays.items():
            if name in repeated and name in joined.arrays and array.shape == (source.rows,):
                _check_same(joined, source, name, array, rows)
            _add(joined, source, name, array, rows)
    return joined


def _add(joined: Joined, source: Source, name: str, array: NDArray[Any], rows: NDArray[np.int64]) -> None:
    if array.ndim == 0 or len(array) != source.rows:
        joined.others.setdefault(name, array)
        return
    if name in joined.arrays:
        if array.ndim >= 2:
            raise DataError(f"{source.path}: {name} is also in {joined.places[name]}", "duplicate array")
        return  # such as the labels, which several files may repeat
    absent = rows < 0
    joined.arrays[name] = array if np.array_equal(rows, np.arange(len(array))) else array[np.maximum(rows, 0)]
    joined.places[name] = f"{source.path}: {name}"
    joined.rows[name] = rows
    if absent.any():
        joined.absent[name] = absent


def _check_same(joined: Joined, source: Source, name: str, array: NDArray[Any], rows: NDArray[np.int64]) -> None:
    known = joined.arrays[name]
    both = np.flatnonzero((rows >= 0) & (joined.rows[name] >= 0))
    for sample in both[known[both].astype(str) != array[rows[both]].astype(str)][:1] if known.ndim == 1 else ():
        raise DataError(
            f"{source.path}: {name} of sample {joined.ids[sample]!r} is {str(array[rows[sample]])!r}, but "
            f"{str(known[sample])!r} in {joined.places[name]}",
            "conflict",
        )


def read_lists(paths: Sequence[Path], names: Names) -> Source:
    """Read and concatenate lists of samples; in a list without parts, the name of the file is the part.

    Raises DataError if a list cannot be read, has no id, or its columns differ from those of the first.
    """
    tables: list[dict[str, NDArray[Any]]] = []
    for path in paths:
        columns = read_table(path)
        if path.stem in PART_OF and not any(name in columns for name in names.split):
            columns[names.split[0]] = np.full(len(next(iter(columns.values()))), path.stem)
        if tables and set(columns) != set(tables[0]):
            raise DataError(
                f"{path}: must have the columns of {paths[0].name}, {', '.join(tables[0])}, got {', '.join(columns)}",
                "bad line",
            )
        tables.append(columns)
    arrays = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    id_name = next((name for name in names.id if name in arrays), None)
    if id_name is None:
        raise DataError(f"{paths[0]}: has no column {' or '.join(names.id)} to join it by", "no id")
    ids = StringArray.of(map(str, arrays[id_name]))
    if (twice := ids.repeated()) is not None:
        raise DataError(f"{', '.join(map(str, paths))}: {twice!r} is listed twice", "duplicate id")
    return Source(paths[0], arrays, ids, len(ids))
