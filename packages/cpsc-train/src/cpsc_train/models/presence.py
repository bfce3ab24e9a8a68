"""Masks of the samples that have a modality.

Shapes: B samples, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Present = Mapping[str, Tensor]
"""By modality, true for samples that have it, (B,) bool; a modality that is not listed is present in all samples."""
COMPLETE: Present = {}
"""No sample lacks a modality."""


def only_present(values: Tensor, present: Tensor | None) -> Tensor:
    """Return values (B, ...), with zeros for samples that are not present (B,) and no gradient there.

    Examples
    --------
    >>> only_present(torch.tensor([1.0, torch.nan]), torch.tensor([True, False])).tolist()
    [1.0, 0.0]
    """
    return fill_absent(values, present, 0)


def fill_absent(values: Tensor, present: Tensor | None, value: float) -> Tensor:
    """Return values (B, ...), with another value for samples that are not present (B,)."""
    if present is None:
        return values
    mask = present.reshape(-1, *[1] * (values.ndim - 1))
    return torch.where(mask, values, torch.full_like(values[:1], value))


def stacked(modalities: Iterable[str], present: Present, like: Tensor) -> Tensor | None:
    """Return the masks of all modalities, (M, B), on the device of `like` (B, ...); None if all samples have all.

    Examples
    --------
    >>> stacked(["a", "b"], {"b": torch.tensor([True, False])}, torch.zeros(2, 5)).tolist()
    [[True, True], [True, False]]
    """
    names = list(modalities)
    if not any(name in present for name in names):
        return None
    everywhere = torch.ones(like.shape[0], dtype=torch.bool, device=like.device)
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


def softmax_present(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Return the softmax over modalities of scores (M, B); 0 for a modality that a sample lacks by `mask` (M, B).

    Examples
    --------
    >>> softmax_present(torch.tensor([[0.0], [5.0]]), torch.tensor([[True], [False]])).tolist()
    [[1.0], [0.0]]
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(0)


def numbers_present(modalities: Iterable[str], present: Present, like: Tensor) -> Tensor:
    """Return the number of samples that have each modality, (M,) float32, on the device of `like` (B, ...)."""
    names = list(modalities)
    mask = stacked(names, present, like)
    if mask is None:
        return torch.full((len(names),), float(len(like)), device=like.device)
    return mask.sum(1).float()


def per_sample(sums: Tensor, numbers: Tensor) -> Tensor:
    """Return sums (M,) over samples, scaled as if every modality had as many samples as the most frequent one.

    `numbers` (M,) are the samples that were summed. Equal numbers change nothing, to the last digit.
    """
    return sums * (numbers.max() / numbers.clamp(min=1))
