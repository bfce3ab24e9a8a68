"""Faults of a data set, which cannot be used, notes on what was read all the same, and skip lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cpsc_train.errors import DataError, UserError
from cpsc_train.reading import read_file
from cpsc_train.writing import write

T = TypeVar("T", bound=Any)

NAMED = 10
"""Largest number of missing files that an error names."""
HEADER = "# sample or line\twhat is wrong with it"


@dataclass
class Faults:
    """Faults by place, notes, and rows left out, collected while a data set is opened.

    Training refuses a data set with a fault that its skip list does not name; a note prevents nothing.
    """

    errors: dict[str, DataError] = field(default_factory=dict)
    """By place: the id of a sample, or a list file and a line number."""
    notes: list[DataError] = field(default_factory=list)
    """What was read all the same, and how."""
    dropped: list[str] = field(default_factory=list)
    """Rows that are left out on purpose, by name and place."""

    def add(self, place: str, error: DataError) -> None:
        """Add a fault, unless its place has one."""
        self.errors.setdefault(place, error)

    def note(self, message: str, kind: str) -> None:
        """Add a note."""
        self.notes.append(DataError(message, kind))


def first_of_each(rows: Sequence[T], faults: Faults, key: Callable[[str], str] = str) -> list[T]:
    """Return the rows with a new ``key(row.name)``; a repeated one is a fault of ``row.place``."""
    first: dict[str, T] = {}
    for row in rows:
        name = key(row.name)
        before = first.setdefault(name, row)
        if before is not row:
            same = row.place.partition(":")[0] == before.place.partition(":")[0]
            kind = "duplicate id" if same else "id in two splits"
            error = DataError(f"{row.place}: {name!r} is listed twice, before at {before.place}", kind)
            faults.add(row.place, error)
    return list(first.values())


def first_faults(faults: Sequence[DataError]) -> str:
    """Return the first of some faults with their number; of missing files, the first `NAMED`."""
    if len(faults) == 1:
        return str(faults[0])
    missing = [str(fault) for fault in faults[1:] if fault.kind == "missing"] if faults[0].kind == "missing" else []
    return "; ".join([f"{faults[0]}, the first of {len(faults)} faults", *missing[: NAMED - 1]])


def write_skip_list(path: Path, faults: Mapping[str, DataError]) -> None:
    """Write the places of faults and the reasons, in the form of `read_skip_list`.

    Raises UserError if it cannot be written, or is a link.
    """
    lines = [HEADER, *(f"{place}\t{' '.join(str(error).split())}" for place, error in sorted(faults.items()))]
    write(path, "\n".join(lines) + "\n")


def read_skip_list(path: Path) -> dict[str, str]:
    """Return the reason for leaving out each place.

    Raises UserError if the file is missing, or a line has no reason.
    """
    if not path.exists():
        raise UserError(f"data.skip {path}: no such file: cpsc data check writes one with --skip-list")
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"data.skip {path}: cannot be read ({error})") from None
    reasons = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        place, tab, why = line.partition("\t")
        if not tab or not place or not why:
            raise UserError(f"{path}:{number}: must be a sample or line, a tab and the reason, got {line[:80]!r}")
        reasons[place] = why
    return reasons
