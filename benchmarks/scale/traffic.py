"""Collectives of this process, counted where torch dispatches them: number, bytes, and bytes sent in a ring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.distributed._tools.fake_collectives import CollectiveOp, collective_ops, sync_ops
from torch.utils._python_dispatch import TorchDispatchMode

NAMES = {"allreduce_": "all-reduce", "allgather_": "all-gather", "_allgather_base_": "all-gather"}
NAMES |= {"_reduce_scatter_base_": "reduce-scatter", "broadcast_": "broadcast", "gather_": "gather"}


@dataclass
class Traffic:
    """Collectives that a process took part in."""

    calls: Counter[str] = field(default_factory=Counter)
    """Number by kind."""
    bytes: Counter[str] = field(default_factory=Counter)
    """Bytes of their complete tensors by kind: of the result of an all-gather, of the input of the others."""

    def sent(self, world: int) -> float:
        """Return the bytes that a process of `world` sends if all collectives are rings."""
        return sum(ring(kind, size, world) for kind, size in self.bytes.items())


class _Counting(TorchDispatchMode):
    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in collective_ops and func not in sync_ops:
            kind = NAMES.get(func._schema.name.removeprefix("c10d::"), func._schema.name)
            self._traffic.calls[kind] += 1
            self._traffic.bytes[kind] += CollectiveOp.get_comm_tensor_size(func, out, args, kwargs or {})
        return out


@contextmanager
def counting() -> Iterator[Traffic]:
    """Count the collectives of this process."""
    traffic = Traffic()
    with _Counting(traffic):
        yield traffic


def ring(kind: str, size: float, world: int) -> float:
    """Return the bytes that one of `world` processes sends for a collective on a complete tensor of `size` bytes.

    Examples
    --------
    >>> ring("all-reduce", 100, 4), ring("all-gather", 100, 4)
    (150.0, 75.0)
    """
    passes = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1, "broadcast": 1, "gather": 1}
    return passes[kind] * size * (world - 1) / world


def bytes_of(tensors: Any) -> int:
    """Return the bytes of the elements of some tensors."""
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))
