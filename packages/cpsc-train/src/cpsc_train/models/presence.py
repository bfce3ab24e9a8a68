"""Masks of the samples that have a modality.

Shapes: B samples, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Present = Mapping[str, Tensor]
"""By modality, which samples have it, (B,) bool; a modality that is not listed is present in all samples."""
COMPLETE: Present = {}
"""No sample lacks a modality."""


def only_present(values: Tensor, present: Tensor | None) -> Tensor:
    """Return values (B, ...), with zeros for samples that are not present (B,) and no gradient there.

    Examples
    --------
    >>> only_present(torch.tensor([1.0, torch.nan]), torch.tensor([True, False])).tolist()
    [1.0, 0.0]
    """
    if present is None:
        return values
    return torch.where(present.reshape(-1, *[1] * (values.ndim - 1)), values, torch.zeros_like(values[:1]))


def stacked(modalities: Iterable[str], present: Present, like: Tensor) -> Tensor | None:
    """Return which samples have each modality, (M, B), on the device of `like` (B, ...); None if all have all.

    Examples
    --------
    >>> stacked(["a", "b"], {"b": torch.tensor([True, False])}, torch.zeros(2, 5)).tolist()
    [[True, True], [True, False]]
    """
    names = list(modalities)
    if not any(name in present for name in names):
        return None
    everywhere = torch.ones(len(like), dtype=torch.bool, device=like.device)
    return torch.stack([present.get(name, everywhere) for name in names])


def mean_present(values: Tensor, present: Tensor | None = None) -> Tensor:
    """Return the mean, 0-d, of values (B,) over the samples that are present (B,); 0 if there are none.

    Examples
    --------
    >>> mean_present(torch.tensor([1.0, 3.0, torch.inf]), torch.tensor([True, True, False]))
    tensor(2.)
    """
    if present is None:
        return values.mean()
    return only_present(values, present).sum() / present.sum().clamp(min=1)
