"""Samples to predict from files: a table, JSON lines, arrays, or a folder in the layout of the data set of a run."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from cpsc_train.config import parse_json
from cpsc_train.data import Dataset
from cpsc_train.data.adapters.table import TableConfig
from cpsc_train.data.families.kinds import absent_rows
from cpsc_train.data.families.stored import Stored
from cpsc_train.data.storage.npz import read_npz
from cpsc_train.data.storage.tables import SEPARATORS, Kind, modality_columns, read_cell
from cpsc_train.errors import DataError, UserError
from cpsc_train.prediction.model import Model
from cpsc_train.prediction.reading import Inputs, SampleReader
from cpsc_train.reading import check_file

STANDARD_INPUT = "-"
IDS = ("id", "ids", "index")
"""Names of an array of ids; the first that exists is used."""
PRESENT = "present/"
"""Start of the name of an array (N,) that is false where a sample lacks the modality, as in the data set ``arrays``."""


@dataclass(frozen=True)
class Sources:
    """What samples are read with; it is sent to each process that reads."""

    reader: SampleReader
    """Reads samples that belong to no data set."""
    datasets: dict[str, Dataset] = field(default_factory=dict)
    """Data sets by their folder or address."""


@dataclass(frozen=True)
class Sample:
    """A sample to predict."""

    id: str
    """Name."""
    read: Callable[[Sources], Inputs]
    """Returns the model inputs; raises UserError if the sample cannot be read."""


@dataclass(frozen=True)
class Samples:
    """Samples in order."""

    rows: Iterable[Sample]
    """The samples, read one at a time."""
    count: int | None
    """Their number; None if unknown."""
    decoded: int = 0
    """Number of samples that may have files to decode."""
    datasets: dict[str, Dataset] = field(default_factory=dict)
    """Data sets that `rows` are read from, by their folder or address."""


def open_samples(model: Model, paths: Sequence[str]) -> Samples:
    """Return the samples at all paths, in order.

    Raises UserError if there is no such file, or it has none of the model's modalities.

    - `model`: reads the samples.
    - `paths`: each is a table (``.csv``, ``.tsv``) or JSON lines (``.jsonl``), whose paths are relative to it; arrays
      (``.npz``); a folder or an address with the layout of the run's data set; or ``-``, JSON lines from the standard
      input.
    """
    if not paths:
        raise UserError("there must be at least one PATH of samples, or - for the standard input")
    opened = [_open(model, path) for path in paths]
    counts = [one.count for one in opened]
    known = [count for count in counts if count is not None]
    return Samples(
        (sample for one in opened for sample in one.rows),
        sum(known) if len(known) == len(counts) else None,
        sum(one.decoded for one in opened),
        {root: dataset for one in opened for root, dataset in one.datasets.items()},
    )


def _open(model: Model, text: str) -> Samples:
    path = Path(text)
    if text == STANDARD_INPUT:
        return Samples(_lines(model, sys.stdin.buffer, Path(), "standard input"), None)
    if "://" in text or path.is_dir():
        return _folder(model, text)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.suffix == ".npz":
        return _arrays(model, path)
    if path.suffix != ".jsonl" and path.suffix not in SEPARATORS:
        raise UserError(
            f"{path}: must be a table (.csv, .tsv), JSON lines (.jsonl), arrays (.npz) or the folder of a data set"
        )
    check_file(path, largest=None)
    if path.suffix == ".jsonl":
        with path.open("rb") as file:
            count = sum(1 for line in file if line.strip())
        return Samples(_lines_of(model, path), count, count)
    return _table(model, path)


def _folder(model: Model, root: str) -> Samples:
    config = model.data
    if not hasattr(config, "root") or isinstance(config, TableConfig):
        raise UserError(f"{root}: the data set {config.name} is not read from a folder: take arrays (.npz) or a table")
    changes: dict[str, Any] = {"root": root} | {name: None for name in ("cache", "skip") if hasattr(config, name)}
    dataset = replace(config, **changes).load()
    faults = [Sample(place, partial(_raise, error)) for place, error in dataset.faults.items()]
    rows = (Sample(name, partial(_of_dataset, root, row)) for row, name in enumerate(dataset.ids))
    count = len(dataset.ids)
    decoded = count if isinstance(dataset, Stored) else 0
    return Samples((one for some in (rows, faults) for one in some), count + len(faults), decoded, {root: dataset})


def _of_dataset(root: str, row: int, sources: Sources) -> Inputs:
    dataset = sources.datasets[root]
    having = [m for m in dataset.modalities if m not in dataset.presence or dataset.presence[m][row]]
    return {m: dataset.inputs(m, dataset.read(m, np.array([row])))[0] for m in having}


def _raise(error: UserError, _sources: Sources) -> Inputs:
    raise error


def _arrays(model: Model, path: Path) -> Samples:
    arrays = read_npz(path)
    used = {m: arrays[m] for m in model.modalities if m in arrays and arrays[m].ndim}
    if not used:
        raise UserError(f"{path}: {_no_modality(model, arrays)}")
    sizes = {m: len(array) for m, array in used.items()}
    ids = next((arrays[name] for name in IDS if name in arrays and arrays[name].ndim == 1), None)
    if len({*sizes.values(), *(() if ids is None else [len(ids)])}) > 1:
        found = ", ".join(f"{m} {size}" for m, size in sizes.items())
        raise UserError(f"{path}: its arrays and ids must have one row per sample, got {found}")
    absent = {m: absent_rows(array, arrays.get(PRESENT + m), f"{path}: {m}") for m, array in used.items()}
    count = next(iter(sizes.values()))
    names = map(str, range(count) if ids is None else ids)
    given = ({m: array[row] for m, array in used.items() if not absent[m][row]} for row in range(count))
    return Samples((Sample(name, partial(_of_values, of)) for name, of in zip(names, given, strict=True)), count)


def _of_values(given: Mapping[str, object], sources: Sources) -> Inputs:
    return sources.reader.read({m: str(value) if isinstance(value, str) else value for m, value in given.items()})


def _table(model: Model, path: Path) -> Samples:
    with _readable(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=SEPARATORS[path.suffix], strict=True)
        header = [name.strip() for name in next(reader, [])]
        count = sum(1 for row in reader if row)
    known = modality_columns(header) | {name: [name] for name in header}
    columns = {m: known[m] for m in model.modalities if m in known}
    if not columns:
        raise UserError(f"{path}: {_no_modality(model, header)}")
    if len(set(header)) < len(header):
        raise UserError(f"{path}: has two columns named {next(name for name in header if header.count(name) > 1)!r}")
    return Samples(_rows(path, header, columns), count, count)


def _rows(path: Path, header: Sequence[str], columns: Mapping[str, Sequence[str]]) -> Iterator[Sample]:
    with _readable(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=SEPARATORS[path.suffix], strict=True)
        next(reader)
        for number, row in enumerate(one for one in reader if one):
            if len(row) != len(header):
                error = DataError(f"{path}: row {number} must have {len(header)} columns, got {len(row)}", "bad line")
                yield Sample(str(number), partial(_raise, error))
                continue
            cells = dict(zip(header, row, strict=True))
            given = {m: _joined([cells[name] for name in names]) for m, names in columns.items()}
            yield Sample(cells.get("id", "").strip() or str(number), partial(_of_cells, given, path.parent))


def _joined(cells: Sequence[str]) -> str:
    """Return the cells of one modality as one; empty if all of them are."""
    return " ".join(cell.strip() or "nan" for cell in cells) if len(cells) > 1 and any(cells) else cells[0]


def _of_cells(cells: Mapping[str, object], folder: Path, sources: Sources) -> Inputs:
    """Return the model inputs of cells, or of values of JSON."""
    kinds: dict[str, Kind] = {m: modality.kind for m, modality in sources.reader.modalities.items()}
    given: dict[str, object] = {}
    for m, value in cells.items():
        try:
            given[m] = value if _is_nested(value) else read_cell(kinds[m], value, folder)
        except DataError as error:
            raise DataError(f"{m}: {error}", error.kind) from None
    return sources.reader.read(given)


def _is_nested(value: object) -> bool:
    """Return whether a value of JSON is a list of lists, such as an image, which has a shape of its own."""
    return isinstance(value, list) and any(isinstance(one, list) for one in value)


def _lines_of(model: Model, path: Path) -> Iterator[Sample]:
    with path.open("rb") as file:
        yield from _lines(model, file, path.parent, str(path))


def _lines(model: Model, file: IO[bytes], folder: Path, where: str) -> Iterator[Sample]:
    """Yield the samples of JSON lines, objects with a value for each modality."""
    for number, line in enumerate(line for line in file if line.strip()):
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")  # noqa: TRY004, TRY301  # of the file, not of the caller
        except ValueError as error:
            fault = DataError(f"{where}: line {number + 1} must be a JSON object ({error})", "bad line")
            yield Sample(str(number), partial(_raise, fault))
            continue
        name = row.get("id")
        given = {m: row[m] for m in model.modalities if m in row}
        text = name if isinstance(name, str) else str(number) if name is None else json.dumps(name)
        yield Sample(text, partial(_of_cells, given, folder))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Name the table that cannot be read."""
    try:
        yield
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not a readable table ({error})", "damaged") from None


def _no_modality(model: Model, names: Iterable[str]) -> str:
    return (
        f"must hold at least one modality of {', '.join(model.modalities)} (it holds: {', '.join(names) or 'nothing'})"
    )
