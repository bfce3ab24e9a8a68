"""The trust as a function of the distance, and the held-out rows to which it is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from conformal_core.checks import check_shape
from cpsc_rsc._checks import check_mask, check_present, check_tensor

OFFSET = 2.0  # of a modality that is not fitted, and the value to which the ridge shrinks


@dataclass(frozen=True, kw_only=True)
class HeldOutCopy:
    """Held-out rows as they are, or with some modalities corrupted.

    Parameters
    ----------
    features : Mapping[str, Tensor], each of shape (N, d_m)
        Features that the weights multiply. A modality that no row has is left out.
    distances : Mapping[str, Tensor], each of shape (N,)
        Those that `ConformalTrust.distances` returned for these rows.
    labels : integer Tensor, shape (N,)
        Classes.
    present : Mapping[str, Tensor], each of shape (N,), booleans
        Which rows have the modality. Modalities without an entry are in all rows.
    clean : bool
        Whether no modality was corrupted.

    Examples
    --------
    >>> import torch
    >>> features, distances = {"audio": torch.randn(3, 4)}, {"audio": torch.zeros(3)}
    >>> HeldOutCopy(features=features, distances=distances, labels=torch.tensor([0, 1, 0]), clean=True).clean
    True
    """

    features: Mapping[str, Tensor]
    distances: Mapping[str, Tensor]
    labels: Tensor
    present: Mapping[str, Tensor] = field(default_factory=dict)
    clean: bool = False


def check_copies(copies: Sequence[HeldOutCopy], modalities: Sequence[str]) -> None:
    """Refuse copies without a clean one, of different numbers of rows, or with entries of the wrong type or shape."""
    if not any(copy.clean for copy in copies):
        raise ValueError(f"copies must hold at least one with clean=True, got {len(copies)} without")
    rows = len(copies[0].labels)
    for i, copy in enumerate(copies):
        if not isinstance(copy.labels, Tensor):
            raise TypeError(f"copies[{i}].labels must be a tensor, got {type(copy.labels).__name__}")
        check_present(f"copies[{i}].features", copy.features, modalities)
        if missing := sorted(set(copy.features) - set(copy.distances)):
            raise ValueError(f"copies[{i}].distances must hold every modality of the features, got none of {missing}")
        if copy.labels.dtype == torch.bool or copy.labels.is_floating_point():
            raise TypeError(f"copies[{i}].labels must be of an integer dtype, got {copy.labels.dtype}")
        check_shape(f"copies[{i}].labels", copy.labels, (rows,))
        for m, h in copy.features.items():
            check_tensor(f"copies[{i}].features[{m!r}]", h, (rows, "d"))
            check_tensor(f"copies[{i}].distances[{m!r}]", copy.distances[m], (rows,))
        for m, mask in copy.present.items():
            check_mask(f"copies[{i}].present[{m!r}]", mask, rows)


def log_trust(distance: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
    """Return log g(D) ≤ 0 for D (B,): log σ(b − c·D) − log σ(b), exactly 0 at D = 0 and −∞ at D = +∞ for every c."""
    endless = distance.isinf()
    log = logsigmoid(offset - slope * distance.masked_fill(endless, 0)) - logsigmoid(offset)
    return torch.where(distance > 0, log.clamp_max(0), 0).masked_fill(endless, -torch.inf)


def identity(modalities: int) -> Tensor:
    """Return b = OFFSET and c = 0 of each modality, (2, M) in float64: every weight is 1."""
    return torch.tensor([OFFSET, 0.0], dtype=torch.float64)[:, None].repeat(1, modalities)
