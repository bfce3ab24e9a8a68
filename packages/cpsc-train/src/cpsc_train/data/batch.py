"""Batch of samples: ids, labels and one tensor per modality."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples of a data set, ready for a model.

    Parameters
    ----------
    ids
        B sample names.
    labels
        (B,) int64, in [0, C).
    inputs
        By modality, (B, ...) float32.
    rows
        (B,) int64, indices into the rows of the part.
    """

    ids: tuple[str, ...]
    labels: Tensor
    inputs: dict[str, Tensor]
    rows: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> Batch:
        """Return a copy in page-locked memory, as the loader of a GPU does."""
        inputs = {name: x.pin_memory() for name, x in self.inputs.items()}
        return Batch(self.ids, self.labels.pin_memory(), inputs, self.rows.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """Return this batch on `device`; the copy is asynchronous from page-locked memory."""
        inputs = {name: x.to(device, non_blocking=True) for name, x in self.inputs.items()}
        labels, rows = (x.to(device, non_blocking=True) for x in (self.labels, self.rows))
        return Batch(self.ids, labels, inputs, rows)
