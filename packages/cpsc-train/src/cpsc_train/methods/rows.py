"""A table of values per training row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class RowTable(nn.Module):
    """A table with a column for each training row, shared by a method and its copies.

    It is moved and saved with the method but is no buffer: averaging of parameters and synchronisation of buffers would
    touch every column in every step. Every process holds the full table.

    Parameters
    ----------
    values
        (K, N), changed in place.

    Examples
    --------
    >>> import torch
    >>> table = RowTable(torch.zeros(2, 5))
    >>> list(table.buffers()), table.state_dict()["_extra_state"].shape
    ([], torch.Size([2, 5]))
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def get_extra_state(self) -> Tensor:
        """Return the table."""
        return self.values

    def set_extra_state(self, state: Any) -> None:
        """Load the values of a saved table.

        Raises
        ------
        ValueError
            If the saved table has another shape.
        """
        if not isinstance(state, Tensor) or state.shape != self.values.shape:
            raise ValueError(
                f"what is remembered of the training rows must have shape {tuple(self.values.shape)}, "
                f"got {tuple(getattr(state, 'shape', ()))}"
            )
        self.values.copy_(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> RowTable:
        """Return the same table: an averaged method does not predict with it, and is saved with its current values."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RowTable:
        self.values = fn(self.values)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        return self
