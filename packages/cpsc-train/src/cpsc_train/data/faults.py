"""What is wrong with a data set: rows that cannot be used, and what a person should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cpsc_train.errors import DataError, UserError
from cpsc_train.reading import read_file
from cpsc_train.writing import write

T = TypeVar("T")

HEADER = "# sample or line\twhat is wrong with it"


@dataclass
class Faults:
    """Faults by place, and notes; opening a data set fills it, so that one look finds all of them.

    Training refuses a data set that has any fault which its skip list does not name; a note stops nothing.
    """

    found: dict[str, DataError] = field(default_factory=dict)
    """By place: the id of a sample, or a list file and the number of a line."""
    notes: list[DataError] = field(default_factory=list)
    """What was read all the same, and how."""

    def add(self, place: str, error: DataError) -> None:
        """Write a fault down; the first of a place stays."""
        self.found.setdefault(place, error)

    def note(self, message: str, kind: str) -> None:
        """Write a note down."""
        self.notes.append(DataError(message, kind))


def first_of_each(rows: Sequence[T], names: Sequence[str], places: Sequence[str], faults: Faults) -> list[T]:
    """Return the rows whose name did not occur before; one that did is a fault of its place."""
    seen: dict[str, str] = {}
    kept = []
    for row, name, place in zip(rows, names, places, strict=True):
        if name in seen:
            same = place.partition(":")[0] == seen[name].partition(":")[0]
            kind = "duplicate id" if same else "id in two splits"
            faults.add(place, DataError(f"{place}: {name!r} is listed twice, before at {seen[name]}", kind))
        else:
            seen[name] = place
            kept.append(row)
    return kept


def write_skip_list(path: Path, faults: Mapping[str, DataError]) -> None:
    """Write the places of faults, with what is wrong, in the form that `read_skip_list` reads.

    Raises
    ------
    UserError
        If it cannot be written, or is a link.
    """
    lines = [HEADER, *(f"{place}\t{' '.join(str(error).split())}" for place, error in sorted(faults.items()))]
    write(path, "\n".join(lines) + "\n")


def read_skip_list(path: Path) -> dict[str, str]:
    """Return by place why it is left out.

    Raises
    ------
    UserError
        If the file is missing, or a line has no reason.
    """
    if not path.exists():
        raise UserError(f"data.skip {path}: no such file: cpsc data check writes one with --skip-list")
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"data.skip {path}: cannot be read ({error})") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        place, tab, why = line.partition("\t")
        if not tab or not place or not why:
            raise UserError(f"{path}:{number}: must be a sample or line, a tab and the reason, got {line[:80]!r}")
        found[place] = why
    return found
