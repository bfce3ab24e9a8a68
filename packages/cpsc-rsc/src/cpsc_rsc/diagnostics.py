"""What a selection did, computed only when asked and left on the device.

Shape legend: B batch, n components, K kept.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cpsc_rsc._checks import check_count, check_per_component, check_selected


class Diagnostics(NamedTuple):
    """What `diagnose` returns.

    Attributes
    ----------
    reliable : Tensor, 0-d
        Share of all components whose prediction set holds the label, in [0, 1].
    kept : Tensor, 0-d
        Share of all components that are selected and reliable, in [0, K/n].
    histogram : Tensor, shape (bins,)
        Share of components by reliability, over equal bins of [0, 1]; sums to 1.
    usage : Tensor, shape (n,)
        Share of the batch in which each component is selected; sums to K.
    """

    reliable: Tensor
    kept: Tensor
    histogram: Tensor
    usage: Tensor


def diagnose(reliability: Tensor, selected: Tensor, *, bins: int = 10) -> Diagnostics:
    """Summarise a selection.

    Parameters
    ----------
    reliability : Tensor, shape (B, n)
    selected : integer Tensor, shape (B, K)
    bins : int

    Returns
    -------
    Diagnostics
        Tensors on the device of the input; nothing waits for the host.

    Raises
    ------
    TypeError, ValueError
        If `bins` is not a positive integer, or shapes or dtypes do not fit.

    Examples
    --------
    >>> import torch
    >>> d = diagnose(torch.tensor([[1.0, 0.5, 0.0, 0.0]]), torch.tensor([[0, 2]]), bins=2)
    >>> d.reliable, d.kept, d.histogram, d.usage
    (tensor(0.5000), tensor(0.2500), tensor([0.5000, 0.5000]), tensor([1., 0., 1., 0.]))
    """
    check_count("bins", bins)
    check_per_component("reliability", reliability)
    batch, n = reliability.shape
    check_selected(selected, batch, n, check=False)
    in_set = (reliability > 0).to(reliability.dtype)
    bin_of = (reliability * bins).long().clamp_max(bins - 1)
    return Diagnostics(
        reliable=in_set.mean(),
        kept=in_set.gather(-1, selected).sum() / (batch * n),
        histogram=_shares(bin_of, bins) / n,
        usage=_shares(selected, n),
    )


def _shares(index: Tensor, size: int) -> Tensor:
    # Not bincount: it waits for the host on a device.
    hits = index.unsqueeze(-1) == torch.arange(size, device=index.device)
    return hits.float().mean(dim=0).sum(dim=0)
