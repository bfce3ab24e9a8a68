r"""Divergence of components from the feature they were decomposed from, and from each other, in O(n·d).

Shape legend: B batch, n components, d feature width.

With :math:`\ell_i = \log p_i` and :math:`\bar\ell` the mean of the :math:`\ell_i`, the sum over all pairs collapses::

    1/(n(n−1)) Σ_{i≠j} KL(p_i‖p_j)  =  1/(n−1) (Σ_i Σ_x p_i ℓ_i − Σ_x (Σ_i p_i) ℓ̄)
    1/n Σ_k KL(p_h‖p_k)             =  Σ_x p_h (ℓ_h − ℓ̄)
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from conformal_core.checks import check_choice, check_nonnegative
from cpsc_rsc._checks import check_feature, check_mask, check_tensor

Divergence: TypeAlias = Literal["kl", "js", "js-reversed"]


def divergence_loss(
    h: Tensor,
    components: Tensor,
    *,
    consistency: float = 0.8,
    diversity: float = 0.2,
    kind: Divergence = "js",
    present: Tensor | None = None,
) -> Tensor:
    r"""Return the divergence loss L_div of components, as distributions over the feature axis.

    ``consistency · mean_k D(P(h)‖P(c_k)) − diversity · mean_{i≠j} D(P(c_i)‖P(c_j))`` with ``P = softmax`` over d,
    averaged over the batch. Half precision is computed in float32, also under autocast.

    Parameters
    ----------
    h : Tensor, shape (B, d)
    components : Tensor, shape (B, n, d)
        With n = 1 there are no pairs, and the diversity is 0.
    consistency, diversity : float >= 0
        λ₁ and λ₂.
    kind : {"kl", "js", "js-reversed"}
        ``kl``: the Kullback–Leibler divergence. −KL has no lower bound, so a long run can drift to −∞.
        ``js``: the Jensen–Shannon divergence, in [0, log 2]. The mean over pairs is replaced by the mean over i of
        ``JS(P(c_i) ‖ mean of the other components)``: equal for n = 2, never larger, with the same components at its
        extremes 0 and log 2, and O(n·d) instead of O(n²·d).
        ``js-reversed``, of the released code: ``½ KL(m‖p) + ½ KL(m‖q)`` with m = (p + q)/2 over all pairs: O(n²·d), and
        unbounded.
    present : bool Tensor, shape (B,), optional
        True for rows to average over; the result is 0 if there are none. If None, all rows.

    Returns
    -------
    Tensor, 0-d
        In [−diversity·log 2, consistency·log 2] for ``js``.

    Raises
    ------
    TypeError, ValueError
        If a shape, a weight or `kind` does not fit.

    Examples
    --------
    >>> import torch
    >>> h = torch.randn(4, 16)
    >>> divergence_loss(h, h.unsqueeze(1).expand(4, 10, 16)).abs() < 1e-6  # all components equal h
    tensor(True)
    """
    check_feature("h", h)
    check_tensor("components", components, (h.shape[0], "n", h.shape[1]))
    check_nonnegative("consistency", consistency)
    check_nonnegative("diversity", diversity)
    terms = {"kl": _kl_terms, "js": _js_terms, "js-reversed": _reversed_terms}[
        check_choice("divergence", kind, Divergence)
    ]
    near, apart = terms(_log_probabilities(h), _log_probabilities(components))
    losses: Tensor = consistency * near - diversity * apart
    if present is None:
        return losses.mean()
    check_mask("present", present, h.shape[0])
    return torch.where(present, losses, 0.0).sum() / present.sum().clamp(min=1)


def _log_probabilities(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32)).log_softmax(dim=-1)


def _kl_terms(log_h: Tensor, log_c: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean_k KL(h‖c_k) and mean_{i≠j} KL(c_i‖c_j), each of shape (B,)."""
    c, mean_log_c = log_c.exp(), log_c.mean(dim=1)
    near = (log_h.exp() * (log_h - mean_log_c)).sum(dim=-1)
    pairs = (c * log_c).sum(dim=(1, 2)) - (c.sum(dim=1) * mean_log_c).sum(dim=-1)
    return near, pairs / max(log_c.shape[1] - 1, 1)


def _js_terms(log_h: Tensor, log_c: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean_k JS(h, c_k) and mean_i JS(c_i, mean of the others), each of shape (B,)."""
    near, apart, *_ = _JensenShannon.apply(log_h, log_c)
    return near, apart


def _js_plain(log_h: Tensor, log_c: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `_js_terms` does, by operations that can be differentiated any number of times.

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


class _JensenShannon(torch.autograd.Function):
    """Both terms, and their gradients with respect to the logarithms, in one pass over (B, n, d).

    With m = (p + q)/2, ∂JS(p, q)/∂p = ½ log(p/m): the gradient needs no logarithms beyond those of the value, so this
    takes a third of the time of `_js_plain` and its backward pass.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(log_h: Tensor, log_c: Tensor) -> tuple[Tensor, ...]:
        n, tiny = log_c.shape[1], torch.finfo(log_c.dtype).tiny
        log_h = log_h.unsqueeze(1)
        h, c = log_h.exp(), log_c.exp()
        log_m = (h + c).clamp_min(tiny).log() - math.log(2)
        h_over_m, c_over_m = log_h - log_m, log_c - log_m
        near = ((h * h_over_m).sum(dim=-1) + (c * c_over_m).sum(dim=-1)).mean(dim=1) / 2
        near_h, near_c = h[:, 0] * h_over_m.mean(dim=1) / 2, c * c_over_m / (2 * n)
        if n == 1:
            return near, torch.zeros_like(near), near_h, near_c, torch.zeros_like(c)
        others = ((c.sum(dim=1, keepdim=True) - c) / (n - 1)).clamp_min(tiny)  # a subtraction can leave −1e-9
        log_m = (c + others).log() - math.log(2)
        c_over_m, others_over_m = log_c - log_m, others.log() - log_m
        apart = ((c * c_over_m).sum(dim=-1) + (others * others_over_m).sum(dim=-1)).mean(dim=1) / 2
        # Each component also makes up 1/(n−1) of the mean that each other component is compared with.
        against = (others_over_m.sum(dim=1, keepdim=True) - others_over_m) / (n - 1)
        return near, apart, near_h, near_c, c * (c_over_m + against) / (2 * n)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output[2:])
        ctx.mark_non_differentiable(*output[2:])

    @staticmethod
    def backward(ctx: Any, near: Tensor, apart: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        log_h, log_c, near_h, near_c, apart_c = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            inputs = [x for x in (log_h, log_c) if x.requires_grad]
            grads = iter(torch.autograd.grad(_js_plain(log_h, log_c), inputs, (near, apart), create_graph=True))
            return tuple(next(grads) if x.requires_grad else None for x in (log_h, log_c))
        return near[:, None] * near_h, near[:, None, None] * near_c + apart[:, None, None] * apart_c


def _reversed_terms(log_h: Tensor, log_c: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean_k and mean_{i≠j} of the reversed divergence, each of shape (B,)."""
    n = log_c.shape[1]
    near = _reversed(log_h.unsqueeze(1), log_c).mean(dim=1)
    if n == 1:
        return near, torch.zeros_like(near)
    first, second = torch.triu_indices(n, n, offset=1, device=log_c.device)
    return near, _reversed(log_c[:, first], log_c[:, second]).mean(dim=1)  # symmetric: each pair once


def _reversed(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return ½ KL(m‖p) + ½ KL(m‖q), over the last axis."""
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (log_m.exp() * (log_m - (log_p + log_q) / 2)).sum(dim=-1)


def _entropy(p: Tensor) -> Tensor:
    # p log p is 0 at p = 0, and a subtraction can leave −1e-9 there; the floor keeps value and gradient finite.
    floor = torch.finfo(p.dtype).tiny
    return -(p * p.clamp_min(floor).log()).sum(dim=-1)
