"""Order of the rows of a stream, and the corruption of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.errors import UserError
from cpsc_train.training.setup import Setup

Order = Literal["data", "group", "random"]
"""Order of the rows: that of the data set, one ``group`` (such as a speaker) after another, or at random."""


@dataclass(frozen=True)
class Course:
    """T steps of a stream over N rows under several conditions."""

    rows: NDArray[np.int64]
    """(T,) row of each step, in [0, N)."""
    condition: NDArray[np.int64]
    """(T,) condition of each step; 0 is clean."""

    @classmethod
    def drifting(cls, rows: NDArray[np.int64], conditions: int) -> Course:
        """Return a course over `rows`: the first half is clean, the second has `conditions` in equal parts, in order.

        With no conditions, all of it is clean.

        Examples
        --------
        >>> Course.drifting(np.array([3, 1, 0, 2, 4, 5]), 2).condition.tolist()
        [0, 0, 0, 1, 1, 2]
        """
        condition = np.zeros(len(rows), dtype=np.int64)
        half = len(rows) // 2
        rest = len(rows) - half
        if conditions:
            condition[half:] = 1 + np.arange(rest) * conditions // rest
        return cls(rows, condition)

    def along(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the value of each step, (T, ...), from arrays (N, ...) by condition."""
        return np.stack(values)[self.condition, self.rows]

    def each(self, values: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Return the values of each step by name, from mappings by condition with the same names."""
        return {name: self.along([by_name[name] for by_name in values]) for name in values[0]}


def ordered(setup: Setup, order: Order) -> NDArray[np.int64]:
    """Return the test rows in an order, as places in the part; UserError if the data set has no groups."""
    rows = setup.splits.test
    if order == "data":
        return np.argsort(rows, kind="stable")
    if order == "random":
        return np.random.default_rng(setup.config.seed).permutation(len(rows))
    groups = setup.dataset.groups
    if groups is None:
        raise UserError(f"{setup.config.data.name} has no groups to order the rows by: use --order data or random")
    return np.argsort(np.array([groups[row] for row in rows]), kind="stable")
