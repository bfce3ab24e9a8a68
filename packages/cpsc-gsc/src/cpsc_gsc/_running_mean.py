"""Mean over samples that arrive in pieces, on one process or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class RunningMean:
    """Mean over samples of tensors by key, which arrive as means over micro-batches.

    The size of a micro-batch is part of a shape, so counting costs no host sync. A key that is missing from a
    micro-batch counts as zero there.
    """

    def __init__(self) -> None:
        self._means: dict[Any, Tensor] = {}
        self._samples = 0

    def __bool__(self) -> bool:
        return self._samples > 0

    def add(self, means: Mapping[Any, Tensor], samples: int) -> None:
        """Add the means over another `samples` samples."""
        self._samples += samples
        fraction = samples / self._samples
        for mean in self._means.values():
            mean.mul_(1 - fraction)
        for key, mean in means.items():
            if key in self._means:
                self._means[key].add_(mean, alpha=fraction)
            else:
                self._means[key] = mean * fraction  # a copy: autograd may return one tensor for two parameters

    def take(self, process_group: ProcessGroup | None) -> dict[Any, Tensor]:
        """Return the means over the samples of all processes, and clear them."""
        means, samples = self._means, self._samples
        self.clear()
        if not samples or not _is_distributed(process_group):
            return means
        device = next(iter(means.values())).device
        total = torch.full((), samples, dtype=torch.float64, device=device)
        for mean in means.values():
            mean.mul_(samples)
        for work in [
            distributed.all_reduce(tensor, group=process_group, async_op=True) for tensor in (total, *means.values())
        ]:
            work.wait()
        for mean in means.values():
            mean.div_(total.to(mean.device))
        return means

    def clear(self) -> None:
        """Remove all means."""
        self._means = {}
        self._samples = 0


def _is_distributed(process_group: ProcessGroup | None) -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size(process_group) > 1
