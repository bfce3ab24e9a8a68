r"""How far components are from the feature they came from, and from each other, in O(n·d).

Shape legend: B batch, n components, d feature width.

With :math:`\ell_i = \log p_i` and :math:`\bar\ell` the mean of the :math:`\ell_i`, the sum over all pairs collapses::

    1/(n(n−1)) Σ_{i≠j} KL(p_i‖p_j)  =  1/(n−1) (Σ_i Σ_x p_i ℓ_i − Σ_x (Σ_i p_i) ℓ̄)
    1/n Σ_k KL(p_h‖p_k)             =  Σ_x p_h (ℓ_h − ℓ̄)
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from cpsc_rsc._checks import check_choice, check_components, check_feature, check_weight

Divergence: TypeAlias = Literal["kl", "js"]


def divergence_loss(
    h: Tensor, components: Tensor, *, consistency: float = 0.8, diversity: float = 0.2, kind: Divergence = "kl"
) -> Tensor:
    r"""Consistency minus diversity of components, as distributions over the feature axis.

    ``consistency · mean_k D(P(h)‖P(c_k)) − diversity · mean_{i≠j} D(P(c_i)‖P(c_j))`` with ``P = softmax`` over d,
    averaged over the batch.  Computed in float32 for half-precision input, also under autocast.

    Parameters
    ----------
    h : Tensor, shape (B, d)
    components : Tensor, shape (B, n, d)
        One component has no pairs: its diversity is 0.
    consistency, diversity : float >= 0
        λ₁ and λ₂.
    kind : {"kl", "js"}
        ``kl``: the Kullback–Leibler divergence.  −KL has no lower bound, so a long run can drift to −∞.
        ``js``: the Jensen–Shannon divergence, in [0, log 2].  The mean over pairs becomes the mean over i of
        ``JS(P(c_i) ‖ mean of the other components)``: equal to it for n = 2, never above it, extreme (0, log 2) for
        the same components, and O(n·d) where true pairs cost O(n²·d).

    Returns
    -------
    Tensor, 0-d
        In [−diversity·log 2, consistency·log 2] for ``js``.

    Raises
    ------
    TypeError, ValueError
        If a shape, a weight or `kind` is not as above.

    Examples
    --------
    >>> import torch
    >>> h = torch.randn(4, 16)
    >>> divergence_loss(h, h.unsqueeze(1).expand(4, 10, 16)).abs() < 1e-6  # nothing differs
    tensor(True)
    """
    check_feature("h", h)
    check_components("components", components, h)
    check_weight("consistency", consistency)
    check_weight("diversity", diversity)
    terms = {"kl": _kl_terms, "js": _js_terms}[check_choice("divergence", kind, Divergence)]
    near, apart = terms(_log_probabilities(h), _log_probabilities(components))
    return (consistency * near - diversity * apart).mean()


def _log_probabilities(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32)).log_softmax(dim=-1)


def _kl_terms(log_h: Tensor, log_c: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean_k KL(h‖c_k) and mean_{i≠j} KL(c_i‖c_j), each of shape (B,)."""
    c, mean_log_c = log_c.exp(), log_c.mean(dim=1)
    near = (log_h.exp() * (log_h - mean_log_c)).sum(dim=-1)
    pairs = (c * log_c).sum(dim=(1, 2)) - (c.sum(dim=1) * mean_log_c).sum(dim=-1)
    return near, pairs / max(log_c.shape[1] - 1, 1)


def _js_terms(log_h: Tensor, log_c: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean_k JS(h, c_k) and mean_i JS(c_i, mean of the others), each of shape (B,).

    JS(p, q) = H((p + q)/2) − (H(p) + H(q))/2 with the entropy H.
    """
    n = log_c.shape[1]
    log_h = log_h.unsqueeze(1)
    h, c = log_h.exp(), log_c.exp()
    others = (c.sum(dim=1, keepdim=True) - c) / (n - 1) if n > 1 else c
    entropy_h, entropy_c = -(h * log_h).sum(dim=-1), -(c * log_c).sum(dim=-1)
    near = _entropy((h + c) / 2) - (entropy_h + entropy_c) / 2
    apart = _entropy((c + others) / 2) - (entropy_c + _entropy(others)) / 2
    return near.mean(dim=1), apart.mean(dim=1)


def _entropy(p: Tensor) -> Tensor:
    # p log p is 0 at p = 0, and a subtraction can leave −1e-9 there; the floor keeps value and gradient finite.
    floor = torch.finfo(p.dtype).tiny
    return -(p * p.clamp_min(floor).log()).sum(dim=-1)
