"""Values and weights of every training row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsc_train.data.row_weights import read_row_weights
from cpsc_train.models import FUSED


class RowTable(nn.Module):
    """A table with a column for each training row, shared by a method and its copies.

    It is moved and saved with the method but is no buffer: averaging of parameters and synchronisation of buffers would
    touch every column in every step. Every process holds the full table.

    `values`: (K, N), changed in place.

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
        """Load the values of a saved table. Raises ValueError if the saved table has another shape."""
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


class RowWeights(nn.Module):
    """Weights of every training row for each modality and the fused head, with mean 1 over the rows; at first all 1.

    - `modalities`: their names, in order.
    - `rows`: number of training rows N.

    Examples
    --------
    >>> weights = RowWeights(("a", "b"), 3)
    >>> weights.update({"a": np.array([0.0, 1.0, 2.0])})
    >>> weights.weights(torch.tensor([2, 0]))
    {'a': tensor([2., 0.]), 'b': tensor([1., 1.]), 'fused': tensor([1., 1.])}
    """

    def __init__(self, modalities: Sequence[str], rows: int) -> None:
        super().__init__()
        self.heads = (*modalities, FUSED)
        self.of_rows = RowTable(torch.ones(len(self.heads), rows))

    @classmethod
    def read(cls, path: str, ids: Sequence[str], modalities: Sequence[str]) -> RowWeights:
        """Return the weights of the rows `ids` in a file; the fused head may have none.

        Raises UserError as `cpsc_train.data.row_weights.read_row_weights`.
        """
        weights = cls(modalities, len(ids))
        weights.update(read_row_weights(Path(path), ids, modalities, optional=(FUSED,)))
        return weights

    def update(self, weights: Mapping[str, NDArray[np.float64]]) -> None:
        """Replace the weights (N,) of some heads."""
        for head, values in weights.items():
            self.of_rows.values[self.heads.index(head)].copy_(torch.from_numpy(values))

    def weights(self, rows: Tensor | None = None) -> dict[str, Tensor]:
        """Return by head the weights (B,) of training rows (B,); if None, of all rows."""
        values = self.of_rows.values if rows is None else self.of_rows.values[:, rows]
        return dict(zip(self.heads, values, strict=True))
