"""Pooling of activations to one vector a sample.

Shapes: B samples, T frames, C channels, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


def first_tensor(name: str, output: object) -> Tensor:
    """Return the first tensor in the output of a module: a tensor, or a nested tuple, list or mapping."""
    for tensor in _tensors(output):
        return tensor
    raise TypeError(f"the output of {name!r} must hold a tensor, got {type(output).__name__}: name another submodule")


def pooled(name: str, h: Tensor, batch: int, mask: Tensor | None, *, channels_first: bool) -> Tensor:
    """Return activations (B, C), (B, C, ...) or (B, L, C) as (B, C), at least in single precision.

    `channels_first` decides between the layouts with three dimensions, and `mask` (B, L) is false for padding. Frames
    in the batch, (B T, ...), are averaged for each sample.
    """
    if h.ndim < 2 or h.shape[0] % batch:
        raise ValueError(f"activations of {name!r} must have shape ({batch}, ...), got {tuple(h.shape)}")
    dtype = torch.promote_types(h.dtype, torch.float32)
    if h.ndim == 2:
        h = h.to(dtype)
    elif h.ndim > 3 or channels_first:
        h = h.mean(tuple(range(2, h.ndim)), dtype=dtype)
    elif mask is None or mask.shape != h.shape[:2]:
        h = h.mean(1, dtype=dtype)
    else:
        tokens = mask.sum(1, keepdim=True).clamp(min=1)  # zeros where all tokens are padding
        h = h.masked_fill(~mask[..., None], 0).sum(1, dtype=dtype) / tokens
    return h if h.shape[0] == batch else h.reshape(batch, -1, *h.shape[1:]).mean(1)


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (Mapping, list, tuple)):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(part)
