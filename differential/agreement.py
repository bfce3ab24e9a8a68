"""Comparison of results cell by cell, and the table of known differences."""

import functools
import tomllib
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TABLE = Path(__file__).with_name("differences.toml")


class Difference(NamedTuple):
    """One known difference: a row of the table."""

    library: str
    quantity: str
    condition: str
    right: str
    why: str


@dataclass(frozen=True)
class Cells:
    """Results of both libraries for the same inputs.

    Attributes
    ----------
    ours, theirs : array of numbers or booleans, broadcast against each other
        Equal infinities and equal NaN agree.
    conditions : mapping of str to array of bool
        Named statements on the inputs of each cell, by which the table explains differences.
    tolerance : float
        Largest relative difference, and absolute below 1, that counts as none; 0 compares exactly.
    """

    ours: Any
    theirs: Any
    conditions: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0

    def differ(self) -> np.ndarray:
        """Whether each cell differs, shape (cells,)."""
        ours, theirs = (part.astype(np.float64).ravel() for part in np.broadcast_arrays(self.ours, self.theirs))
        equal = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        with np.errstate(invalid="ignore"):
            near = np.abs(ours - theirs) <= self.tolerance * np.maximum(np.abs(ours), 1.0)
        return ~(equal | near & np.isfinite(ours))

    def where(self, condition: str) -> np.ndarray:
        """Whether a condition holds in each cell, shape (cells,)."""
        shape = np.broadcast_shapes(np.shape(self.ours), np.shape(self.theirs))
        return np.broadcast_to(np.asarray(self.conditions.get(condition, False), dtype=bool), shape).ravel()


@dataclass
class Tally:
    """Cells compared with one library, those that differ, and the rows of the table that explain them."""

    cells: int = 0
    differing: int = 0
    rows: int = 0


TALLIES: dict[str, Tally] = defaultdict(Tally)


def table() -> list[Difference]:
    """Return the known differences."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["difference"]
    return [Difference(**row) for row in rows]


def agrees(comparison: Callable[[], Iterator[Cells]]) -> Callable[[], None]:
    """Turn a generator of cells into a test that the table explains every difference, and that every row occurs.

    The name of the test is ``test_`` and the quantity, that of its module ``test_`` and the library.
    """
    library, quantity = (
        name.rpartition(".")[2].removeprefix("test_") for name in (comparison.__module__, comparison.__name__)
    )

    @functools.wraps(comparison)
    def test() -> None:
        known = [row for row in table() if (row.library, row.quantity) == (library, quantity)]
        occurred = dict.fromkeys((row.condition for row in known), 0)
        unexplained, compared, tally = [], 0, TALLIES[library]
        tally.rows += len(known)
        for cells in _quietly(comparison):
            left = cells.differ()
            compared += left.size
            tally.differing += int(left.sum())
            for condition in occurred:
                explained = left & cells.where(condition)
                occurred[condition] += int(explained.sum())
                left &= ~explained
            if left.any():
                unexplained.append(_shown(cells, left))
        tally.cells += compared
        assert compared, f"{library}, {quantity}: no cell was compared"
        assert not unexplained, "\n".join([f"{library}, {quantity}: no row explains", *unexplained[:9]])
        absent = [condition for condition, count in occurred.items() if not count]
        assert not absent, f"{library}, {quantity}: these rows of {TABLE.name} no longer occur: {absent}"

    return test


def _quietly(comparison: Callable[[], Iterator[Cells]]) -> Iterator[Cells]:
    """Ignore warnings, which the inputs provoke: too few rows, deprecated arguments, division by zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from comparison()


def _shown(cells: Cells, unexplained: np.ndarray) -> str:
    """Return the number of differences, and the first with the conditions that hold there."""
    first = int(np.flatnonzero(unexplained)[0])
    ours, theirs = (part.ravel()[first] for part in np.broadcast_arrays(cells.ours, cells.theirs))
    holding = [name for name in cells.conditions if cells.where(name)[first]]
    count = int(unexplained.sum())
    return f"  {count} of {unexplained.size}, first at {first}: {ours!r}, theirs {theirs!r}, conditions {holding}"
