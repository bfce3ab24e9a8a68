"""Batch of samples: ids, labels and one tensor per modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

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
        return self.mapped(Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch:
        """Return this batch on `device`; the copy is asynchronous from page-locked memory."""
        return self.mapped(lambda x: x.to(device, non_blocking=True))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return this batch with `change` applied to each tensor."""
        inputs, present = ({name: change(x) for name, x in of.items()} for of in (self.inputs, self.present))
        return Batch(self.ids, change(self.labels), inputs, change(self.rows), present)

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Return the samples of several batches as one."""
        if len(batches) == 1:
            return batches[0]
        inputs, present = (
            {name: torch.cat([of[name] for of in each]) for name in each[0]}
            for each in ([one.inputs for one in batches], [one.present for one in batches])
        )
        labels, rows = (torch.cat([getattr(one, name) for one in batches]) for name in ("labels", "rows"))
        return cls(tuple(chain(*(one.ids for one in batches))), labels, inputs, rows, present)
