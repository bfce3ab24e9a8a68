"""Columns of a table in arrays, so that millions of cells take little memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.storage.tables import Cell, Kind
from cpsc_train.data.strings import StringArray


@dataclass(frozen=True)
class Column:
    """Cells of one modality of N samples."""

    kind: Kind
    """What the cells are."""
    cells: StringArray | NDArray[np.float32]
    """Vectors (N, d), or N texts or paths; zeros or ``""`` where `present` is false."""
    present: NDArray[np.bool_]
    """Which samples have the modality, (N,)."""

    @classmethod
    def of(cls, kind: Kind, cells: Sequence[Cell | None]) -> Column:
        """Return the column of some cells, of which vectors are of one length; None: the sample lacks the modality.

        Examples
        --------
        >>> column = Column.of("image", [Path("a.png"), None])
        >>> column[0].name, column.present.tolist()
        ('a.png', [True, False])
        """
        present = np.array([cell is not None for cell in cells], np.bool_)
        if kind != "vector":
            return cls(kind, StringArray.of("" if cell is None else str(cell) for cell in cells), present)
        vectors: list[Any] = [cell for cell in cells if cell is not None]
        values = np.zeros((len(cells), len(vectors[0]) if vectors else 0), np.float32)
        values[present] = np.reshape(vectors, (len(vectors), values.shape[1]))
        return cls(kind, values, present)

    def __getitem__(self, row: int) -> Cell:
        """Return the text, the vector or the path of a sample that has the modality."""
        cell = self.cells[row]
        return Path(cell) if isinstance(cell, str) and self.kind != "text" else cell
