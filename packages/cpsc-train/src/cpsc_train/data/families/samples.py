"""Tables of samples: a row a sample, with its label, its part, its group, and a cell for each modality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import unknown
from cpsc_train.data.families.joined import PART_OF, PARTS
from cpsc_train.data.families.kinds import columns_of, kind_of, labels_of
from cpsc_train.data.faults import Faults, first_of_each
from cpsc_train.data.storage.tables import TABLES, Cell, Kind, read_cell, read_columns
from cpsc_train.errors import DataError, UserError

FILES: Mapping[Kind, str] = {"image": "an image", "sound": "a sound", "video": "a video"}
"""Kinds of which a cell is the path of a file, and what the file is."""


@dataclass(frozen=True)
class Roles:
    """Names of the columns that are not modalities; `DEFAULT` ones may be absent, except that of labels."""

    label: str = "label"
    id: str = "id"
    split: str = "split"
    group: str = "group"


DEFAULT = Roles()


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of a table: name, class, part or ``""``, group or ``""``, and cells by modality.

    A modality that the sample lacks has no cell. `place` is the file and the row, which counts from 0.
    """

    name: str
    label: int
    part: str
    group: str
    cells: Mapping[str, Cell]
    place: str

    def __str__(self) -> str:
        return self.name

    def vector(self, modality: str) -> NDArray[np.float32]:
        """Return the cell of a vector, (d,)."""
        return np.asarray(self.cells[modality])


@dataclass(frozen=True)
class Table:
    """Content of a table, checked but for the content of files."""

    samples: list[Sample]
    """The rows without a fault."""
    classes: tuple[str, ...]
    """Class names; a label is an index into them."""
    kinds: dict[str, Kind]
    """Kind of each modality, in order."""
    unused: list[str]
    """Names of the columns that are neither a modality nor have a role."""


class TableReader:
    """Reader of a table. Raises UserError if it is no table, or has no column of labels.

    - `path`: a ``.csv``, ``.tsv`` or ``.jsonl`` file. Paths in it are relative to its folder.
    - `roles`: names of the columns that are not modalities.
    - `faults`: receives an error for each row that cannot be used.
    """

    def __init__(self, path: Path, roles: Roles, faults: Faults) -> None:
        if path.suffix not in TABLES or not path.is_file():
            what = "no such file" if not path.exists() else f"must be a table ({', '.join(TABLES)})"
            raise UserError(f"{path}: {what}: name the table with --root")
        self._path, self._roles, self._faults = path, roles, faults
        columns = read_columns(path, sparse=True)
        self._columns = {name: [cell.strip() for cell in cells] for name, cells in columns.items()}
        for role, name in vars(roles).items():
            if name not in self._columns and (role == "label" or name != getattr(DEFAULT, role)):
                known = unknown(f"{role} column", name, list(self._columns))
                raise UserError(f"{path}: {known}: name it with --set data.{role}=COLUMN")

    def read(self, modalities: Sequence[str], kinds: Mapping[str, Kind], classes: Sequence[str]) -> Table:
        """Return the samples.

        Raises UserError if a modality or part is unknown, there are fewer than two modalities or classes, or a group is
        in two parts.

        - `modalities`: modalities to use, in order. If empty, all columns without a role.
        - `kinds`: kinds that replace those found.
        - `classes`: class names, in order. If empty, all labels, sorted.
        """
        chosen, unused = self._modalities(modalities)
        for name in kinds:
            if name not in chosen:
                raise UserError(f"{self._path}: {unknown('modality', f'data.kinds.{name}', list(chosen))}")
        cells = {name: self._cells(columns) for name, columns in chosen.items()}
        found = {name: kinds.get(name) or kind_of([cell for cell in cells[name] if cell]) for name in chosen}
        names, labels = self._labels(classes)
        count, width = len(labels), len(str(len(labels) - 1))
        ids = self._column("id") or [f"{row:0{width}d}" for row in range(count)]
        parts, groups = self._parts(count), self._column("group") or [""] * count
        self._check_groups(parts, groups)
        samples = []
        for row, (name, label, part, group) in enumerate(zip(ids, labels, parts, groups, strict=True)):
            place = f"{self._path}: row {row}"
            try:
                if label is None:
                    got = self._columns[self._roles.label][row]
                    raise DataError(  # noqa: TRY301
                        f"{place}: {self._roles.label} must be one of {', '.join(names)}, got {got!r}", "unknown class"
                    )
                read = {m: self._read(kind, cells[m][row], f"{place}: {m}") for m, kind in found.items()}
            except DataError as error:
                self._faults.add(name or place, error)
                continue
            here = {m: cell for m, cell in read.items() if cell is not None}
            samples.append(Sample(name, label, part, group, here, place))
        return Table(list(self._usable(samples, found)), names, found, unused)

    def _column(self, role: str) -> list[str] | None:
        """Return the cells of the column with a role, stripped; None if there is none or all are empty."""
        cells = self._columns.get(getattr(self._roles, role))
        return None if cells is None or not any(cells) else cells

    def _modalities(self, wanted: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
        """Return the columns of the modalities in use, and the unused columns."""
        roles = set(vars(self._roles).values())
        known = columns_of(self._columns, [name for name in self._columns if name not in roles])
        for name in wanted:
            if name not in known:
                raise UserError(f"{self._path}: {unknown('modality', name, list(known))}")
        used = list(wanted) or [
            name for name, columns in known.items() if any(any(self._columns[column]) for column in columns)
        ]
        if len(set(used)) < max(2, len(used)):
            raise UserError(
                f"{self._path}: must have at least two modalities, a column each, got {', '.join(used) or 'none'}"
            )
        taken = {column for name in used for column in known[name]}
        unused = [name for name in self._columns if name not in taken and name not in roles]
        return {name: known[name] for name in used}, unused

    def _cells(self, columns: Sequence[str]) -> list[str]:
        """Return the cells of a modality; those of numbered columns are joined, and empty if all of them are."""
        if len(columns) == 1:
            return self._columns[columns[0]]
        rows = zip(*(self._columns[name] for name in columns), strict=True)
        return [" ".join(cell or "nan" for cell in row) if any(row) else "" for row in rows]

    def _read(self, kind: Kind, text: str, where: str) -> Cell | None:
        try:
            cell = read_cell(kind, text, self._path.parent)
        except DataError as error:
            raise DataError(f"{where} {error}: its kind is set with data.kinds", error.kind) from None
        if kind in FILES and isinstance(cell, np.ndarray):
            raise DataError(
                f"{where} must be the path of {FILES[kind]}, got {text[:40]!r}: its kind is set with data.kinds",
                "bad cell",
            )
        if isinstance(cell, np.ndarray) and not np.isfinite(cell).all():
            raise DataError(
                f"{where} holds a number that is missing (nan) or not finite, got {text[:40]!r}: fill it, or leave all "
                "of them empty",
                "not finite",
            )
        if kind in FILES and isinstance(cell, Path) and not cell.is_file():
            raise DataError(f"{where} {cell} is missing", "missing")
        return cell

    def _usable(self, samples: Sequence[Sample], kinds: Mapping[str, Kind]) -> Iterator[Sample]:
        """Yield the samples with a modality and vectors of the most common width, the first of each name."""
        widths = {m: self._width(samples, m) for m, kind in kinds.items() if kind == "vector"}
        for sample in first_of_each(samples, self._faults):
            wrong = [m for m, width in widths.items() if m in sample.cells and len(sample.vector(m)) != width]
            if wrong:
                m = wrong[0]
                got = f"must hold {widths[m]} numbers as in most rows, got {len(sample.vector(m))}"
                self._faults.add(sample.name, DataError(f"{sample.place}: {m} {got}", "wrong size"))
            elif not sample.cells:
                self._faults.add(sample.name, DataError(f"{sample.place}: has no modality", "no modality"))
            else:
                yield sample

    def _width(self, samples: Sequence[Sample], modality: str) -> int:
        widths = Counter(len(sample.vector(modality)) for sample in samples if modality in sample.cells)
        return widths.most_common(1)[0][0] if widths else 0

    def _labels(self, classes: Sequence[str]) -> tuple[tuple[str, ...], list[int | None]]:
        """Return the class names and the label of each row; None if it is none of the given `classes`."""
        cells, where = self._columns[self._roles.label], f"{self._path}: column {self._roles.label!r}"
        if not classes:
            labels, names = labels_of(np.array(cells), None, where)
            return names, labels.tolist()
        if len(set(classes)) < max(2, len(classes)):
            raise UserError(f"data.classes must be two or more different names, got {', '.join(classes)}")
        number = {name: place for place, name in enumerate(classes)}
        return tuple(classes), [number.get(cell) for cell in cells]

    def _parts(self, count: int) -> list[str]:
        cells = self._column("split")
        if cells is None:
            return [""] * count
        parts = [PART_OF.get(cell.lower(), "") for cell in cells]
        if "" in parts:
            row = parts.index("")
            raise DataError(
                f"{self._path}: row {row}: {self._roles.split} must be one of {', '.join(PARTS)}, got {cells[row]!r}",
                "bad split",
            )
        return parts

    def _check_groups(self, parts: Sequence[str], groups: Sequence[str]) -> None:
        first: dict[str, int] = {}
        for row, group in enumerate(groups):
            before = first.setdefault(group, row) if group else row
            if parts[before] != parts[row]:
                raise DataError(
                    f"{self._path}: the rows of a group must be in one part, but {group!r} is in {parts[before]} (row "
                    f"{before}) and {parts[row]} (row {row})",
                    "group in two parts",
                )
