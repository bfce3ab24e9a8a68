"""Class probabilities of many rows and classes, computed in parts.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS = 2**20
"""Most probabilities in a part: 8 MiB in double precision."""

Rows = slice | NDArray[np.int64]


class Softmax:
    """Class probabilities (N, C) in double precision, computed from logits where they are read.

    Takes 4·N·C bytes for the logits, which are not copied, and 12·N for the normalisation.

    Examples
    --------
    >>> probabilities = Softmax(np.log(np.array([[1, 3], [4, 1]], np.float32)))
    >>> probabilities[:1].round(6).tolist(), probabilities[:, 1:].round(6).tolist()
    ([[0.25, 0.75]], [[0.75], [0.2]])
    """

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self.logits = logits
        self._largest = logits.max(1, keepdims=True)
        self._sums = np.ones((len(logits), 1))
        for rows in row_parts(*logits.shape):
            self._sums[rows] = self[rows].sum(1, keepdims=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C)."""
        return self.logits.shape

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, key: Rows | tuple[Rows, Rows]) -> NDArray[np.float64]:
        """Return the probabilities of some rows, (n, C), or of some rows and classes, (n, c)."""
        rows, classes = key if isinstance(key, tuple) else (key, slice(None))
        values: NDArray[np.float64] = self.logits[rows, classes].astype(np.float64)
        values -= self._largest[rows]
        np.exp(values, out=values)
        values /= self._sums[rows]
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all probabilities, 8·N·C bytes."""
        return self[:].astype(dtype or np.float64, copy=False)


Probabilities = NDArray[np.float64] | Softmax
"""(N, C) class probabilities, in memory or computed where they are read."""


def row_parts(rows: int, classes: int) -> Iterator[slice]:
    """Yield slices of rows with at most `CELLS` probabilities each, at least one row.

    Examples
    --------
    >>> list(row_parts(5, CELLS // 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, CELLS // max(1, classes))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
