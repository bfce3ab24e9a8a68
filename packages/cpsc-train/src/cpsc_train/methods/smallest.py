"""Minimum of each row of a large table that changes in a few columns at a time."""

from __future__ import annotations

import torch
from torch import Tensor

FAN = 64
"""Values under one node of the tree."""


class Smallest:
    """A tree of minima over the columns of a table: every node holds the minimum of up to `FAN` nodes below it.

    The caller changes the table (M, N), N at least 1, and then calls `update`.

    Notes
    -----
    Cost: O(M N) to build, O(M B log N) for B columns, without waiting for a device.

    Examples
    --------
    >>> table = torch.arange(200.0)[None] + 1
    >>> smallest = Smallest(table)
    >>> table[0, 0] = 7.0
    >>> smallest.update(torch.tensor([0]))
    >>> smallest.values
    tensor([2.])
    """

    def __init__(self, table: Tensor) -> None:
        self._levels = [table]
        while self._levels[-1].shape[1] > 1:
            below = self._levels[-1]
            nodes = torch.arange(-(-below.shape[1] // FAN), device=table.device)
            self._levels.append(_under(below, nodes))

    @property
    def values(self) -> Tensor:
        """Minimum of each row, (M,)."""
        return self._levels[-1][:, 0]

    def update(self, columns: Tensor) -> None:
        """Update the minima after a change of some columns, (B,)."""
        nodes = columns
        for below, level in zip(self._levels[:-1], self._levels[1:], strict=True):
            nodes = nodes // FAN
            level[:, nodes] = _under(below, nodes)


def _under(level: Tensor, nodes: Tensor) -> Tensor:
    """Return the minimum (M, B) below each node (B,) of the next level."""
    first = nodes[:, None] * FAN
    members = (first + torch.arange(FAN, device=level.device)).clamp(max=level.shape[1] - 1)
    return level[:, members].amin(-1)
