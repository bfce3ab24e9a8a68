"""Batch of samples: ids, labels and one tensor per modality."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples of a data set, ready for a model."""

    ids: tuple[str, ...]
    """B sample names."""
    labels: Tensor
    """(B,) int64, in [0, C)."""
    inputs: dict[str, Tensor]
    """By modality, (B, ...) float32."""
    rows: Tensor
    """(B,) int64, indices into the rows of the part."""
    present: dict[str, Tensor] = field(default_factory=dict)
    """By modality that is incomplete in the data set, true for samples of the batch that have it, (B,) bool; inputs of
    the others are zeros."""

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> Batch:
        """Return a copy in page-locked memory, as the loader of a GPU does."""
        inputs, present = ({name: x.pin_memory() for name, x in of.items()} for of in (self.inputs, self.present))
        return Batch(self.ids, self.labels.pin_memory(), inputs, self.rows.pin_memory(), present)

    def to(self, device: torch.device) -> Batch:
        """Return this batch on `device`; the copy is asynchronous from page-locked memory."""
        inputs, present = (
            {name: x.to(device, non_blocking=True) for name, x in of.items()} for of in (self.inputs, self.present)
        )
        labels, rows = (x.to(device, non_blocking=True) for x in (self.labels, self.rows))
        return Batch(self.ids, labels, inputs, rows, present)
