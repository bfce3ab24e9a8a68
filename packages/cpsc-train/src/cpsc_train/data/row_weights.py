"""Weights of training rows by head, in the CSV file that a run writes and another run can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.storage.tables import SEPARATORS, read_table
from cpsc_train.errors import DataError
from cpsc_train.writing import as_csv, write

COLUMN = "weight_"
"""Start of the name of a column of weights; the rest is the head."""


def write_row_weights(
    path: Path, ids: Sequence[str], labels: Sequence[str], weights: Mapping[str, NDArray[Any]]
) -> None:
    """Write id, label and weight by head of each row, in ascending order of mean weight.

    Raises UserError if the file cannot be written.

    - `path`: the file.
    - `ids` and `labels`: (N,), names of rows and of their classes.
    - `weights`: by head, (N,).
    """
    order = np.argsort(np.mean(list(weights.values()), axis=0), kind="stable")
    lines = [[ids[row], labels[row], *(f"{values[row]:.4g}" for values in weights.values())] for row in order]
    write(path, as_csv([["id", "label", *(f"{COLUMN}{head}" for head in weights)], *lines]))


def read_row_weights(
    path: Path, ids: Sequence[str], heads: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """Return the weights of rows by head, divided by their mean over these rows.

    Raises DataError if the file cannot be read, a column or a row is missing, an id is repeated, or weights are
    negative, not finite, or zero in all rows.

    - `path`: a .csv or .tsv file with the columns ``id`` and ``weight_HEAD``. Other columns and other rows are ignored.
    - `ids`: (N,), names of the rows.
    - `heads`: heads whose column must exist.
    - `optional`: heads whose weights are 1 if there is no column.

    Returns
    -------
    dict
        By head, (N,), at least 0, with mean 1.
    """
    if path.suffix not in SEPARATORS:
        raise DataError(f"{path}: weights of rows must be a {' or '.join(SEPARATORS)} file", "bad line")
    columns = read_table(path)
    for name in ("id", *(f"{COLUMN}{head}" for head in heads)):
        if name not in columns:
            raise DataError(f"{path}: must have a column {name!r}, got {', '.join(map(repr, columns))}", "bad line")
    places = _places(path, columns["id"].tolist(), ids)
    return {
        head: _normalised(path, f"{COLUMN}{head}", columns, places)
        if f"{COLUMN}{head}" in columns
        else np.ones(len(ids))
        for head in (*heads, *optional)
    }


def _places(path: Path, listed: list[str], ids: Sequence[str]) -> list[int]:
    """Return the line of each id; an apostrophe may protect an id that a spreadsheet would read as a formula."""
    place_of = {name: place for place, name in enumerate(listed)}
    if len(place_of) < len(listed):
        twice = next(name for place, name in enumerate(listed) if place_of[name] != place)
        raise DataError(f"{path}: lists id {twice!r} twice", "duplicate id")
    places = [place_of.get(name, place_of.get(f"'{name}")) for name in ids]
    absent = [name for name, place in zip(ids, places, strict=True) if place is None]
    if absent:
        raise DataError(
            f"{path}: has no line for {len(absent)} of {len(ids)} training rows, such as {absent[0]!r}: "
            "list every training row once",
            "missing",
        )
    return [place for place in places if place is not None]


def _normalised(
    path: Path, name: str, columns: Mapping[str, NDArray[Any]], places: Sequence[int]
) -> NDArray[np.float64]:
    cells = columns[name][places]
    weights = np.array([_number(cell) for cell in cells])
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        sample = columns["id"][places[bad[0]]]
        raise DataError(
            f"{path}: id {str(sample)!r}, column {name!r} must be a finite number of at least 0, "
            f"got {str(cells[bad[0]])[:40]!r}",
            "bad line",
        )
    if not weights.any():
        raise DataError(f"{path}: column {name!r} must be positive in some training row, got zeros alone", "bad line")
    normalised: NDArray[np.float64] = weights / weights.mean()
    return normalised


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
