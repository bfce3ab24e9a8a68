"""What a method remembers of every training row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class RowTable(nn.Module):
    """A table with a column for each training row, which a method and its copies share.

    It moves and is saved with the method, but is no buffer: an average of the parameters would follow every column at
    every step, and so would what keeps the buffers of several processes the same. Every process holds the whole table.

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
        """Take the values of a saved table.

        Raises
        ------
        ValueError
            If it is of another number of rows.
        """
        if not isinstance(state, Tensor) or state.shape != self.values.shape:
            raise ValueError(
                f"what is remembered of the training rows must have shape {tuple(self.values.shape)}, "
                f"got {tuple(getattr(state, 'shape', ()))}"
            )
        self.values.copy_(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> RowTable:
        """Return the same table: an average of a method predicts without it, and is saved with what it holds now."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RowTable:
        self.values = fn(self.values)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        return self
