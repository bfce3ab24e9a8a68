"""The rows of a part that one process holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Share:
    """All rows of a part, in one process; a subclass divides them among several, and exchanges values.

    A process without rows holds one that is ignored, so that every process makes the same calls.
    """

    @property
    def rank(self) -> int:
        """Index of this process."""
        return 0

    @property
    def world(self) -> int:
        """Number of processes."""
        return 1

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values of the rows held, from those of all N rows, (N, ...)."""
        return values

    def gather(self, mine: NDArray[Any]) -> NDArray[Any]:
        """Return the values of all rows, (N, ...), in every process, from those of the rows held."""
        return mine

    def gather_to(self, rank: int, mine: NDArray[Any], start: int, stop: int) -> NDArray[Any] | None:
        """Return the values of all rows in process `rank`, and None in the others.

        - `mine`: values of the rows held with places `start` to `stop` − 1, fewer if there are not so many.
        - `stop`: at most ⌈N / W⌉, of W processes. Rows are in order if `start` and `stop` take them all in turn.
        """
        return mine

    def sum(self, mine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over all processes."""
        return mine


ALL = Share()
"""All rows, in one process."""
