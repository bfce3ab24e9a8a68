"""Summary of a selection, computed only on request and left on the device.

Shape legend: B batch, n components, K selected.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from conformal_core.checks import check_count
from cpsc_rsc._checks import check_selected, check_tensor


class Diagnostics(NamedTuple):
    """Result of `diagnose`.

    Attributes
    ----------
    reliable : Tensor, 0-d
        Fraction of all components whose prediction set holds the label, in [0, 1].
    kept : Tensor, 0-d
        Fraction of all components that are selected and reliable, in [0, K/n].
    histogram : Tensor, shape (bins,)
        Fraction of components by reliability, over equal bins of [0, 1]; sums to 1.
    usage : Tensor, shape (n,)
        Fraction of the batch in which each component is selected; sums to K.
    """

    reliable: Tensor
    kept: Tensor
    histogram: Tensor
    usage: Tensor


def diagnose(reliability: Tensor, selected: Tensor, *, bins: int = 10) -> Diagnostics:
    """Summarise a selection, without a host sync.

    Parameters
    ----------
    reliability : Tensor, shape (B, n)
    selected : integer Tensor, shape (B, K)
    bins : int

    Returns
    -------
    Diagnostics

    Raises
    ------
    TypeError, ValueError
        If `bins` is not a positive integer, or a shape or dtype does not fit.

    Examples
    --------
    >>> import torch
    >>> d = diagnose(torch.tensor([[1.0, 0.5, 0.0, 0.0]]), torch.tensor([[0, 2]]), bins=2)
    >>> d.reliable, d.kept, d.histogram, d.usage
    (tensor(0.5000), tensor(0.2500), tensor([0.5000, 0.5000]), tensor([1., 0., 1., 0.]))
    """
    check_count("bins", bins)
    check_tensor("reliability", reliability, ("B", "n"))
    batch, n = reliability.shape
    check_selected(selected, batch, n, check=False)
    in_set = (reliability > 0).to(reliability.dtype)
    bin_of = (reliability * bins).long().clamp_max(bins - 1)
    return Diagnostics(
        reliable=in_set.mean(),
        kept=in_set.gather(-1, selected).sum() / (batch * n),
        histogram=_frequencies(bin_of, bins) / n,
        usage=_frequencies(selected, n),
    )


def _frequencies(index: Tensor, size: int) -> Tensor:
    # Not bincount, which makes the host wait for a device.
    hits = index.unsqueeze(-1) == torch.arange(size, device=index.device)
    return hits.float().mean(dim=0).sum(dim=0)
