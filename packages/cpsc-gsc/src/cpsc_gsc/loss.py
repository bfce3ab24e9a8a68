"""Gradient self-calibration as a loss: one backward pass gives the modulated unimodal gradient with everything else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_gsc import _checks
from cpsc_gsc.reliability import LEAST_AMBIGUOUS, Kind, Score, collaborative_reliability, gsc_weights


def gsc_loss(
    unimodal_logits: Mapping[str, Tensor],
    labels: Tensor,
    *,
    fused_logits: Tensor,
    qhat: Mapping[str, Tensor],
    a: float = 0.6,
    b: float = 0.6,
    score: Score = LEAST_AMBIGUOUS,
    kind: Kind = "normalized",
    check: bool | None = None,
) -> Tensor:
    """Return Σ_m mean_i w_i^m CE_i^m, whose gradient is the modulated unimodal gradient of GSC.

    The weights w = aρ + b come from :func:`collaborative_reliability` and carry no gradient, so adding this to a loss
    adds ∇L_GSC = (1/B) Σ_i w_i ∇CE_i of each modality to its gradient. It is three calls, which you can write
    yourself where ρ is to be logged::

        rho = collaborative_reliability(unimodal_logits, fused_logits, qhat=qhat)
        weights = {m: gsc_weights(r, a=0.6, b=0.6) for m, r in rho.items()}
        loss = loss + weighted_cross_entropy(unimodal_logits, labels, weights)

    Parameters
    ----------
    unimodal_logits
        {modality: (B, C)}, the logits of each modality's own head.
    labels
        (B,) int64 in [0, C).
    fused_logits
        (B, C); only its argmax is used, so no gradient flows into it.
    qhat
        {modality: 0-d}, the conformal quantile of the scores of that modality's head.
    a, b
        Slope and intercept of the weight, not negative.
    score, kind, check
        As in :func:`collaborative_reliability`; `check` also covers the range of the labels.

    Returns
    -------
    Tensor
        0-d, float32 or wider.

    Raises
    ------
    TypeError
        If a logit, label or q̂ is not a tensor of the right kind.
    ValueError
        If shapes differ, q̂ of a modality is missing, `a` or `b` is negative, or (checked) a label is out of range.

    Notes
    -----
    Section "Gradient Self-Calibration" of arXiv:2605.03820. No host sync and no graph break with ``check=False``, or
    on a device, or under ``torch.compile``.

    Examples
    --------
    >>> logits = {"audio": torch.zeros(2, 4, requires_grad=True)}
    >>> labels = torch.tensor([0, 3])
    >>> loss = gsc_loss(logits, labels, fused_logits=torch.zeros(2, 4), qhat={"audio": torch.tensor(0.9)})
    >>> round(loss.item(), 4)  # ρ = 1 (all four scores tie), so 1.2 log 4
    1.6636
    """
    reliability = collaborative_reliability(
        unimodal_logits, fused_logits, qhat=qhat, score=score, kind=kind, check=check
    )
    weights = {modality: gsc_weights(rho, a=a, b=b) for modality, rho in reliability.items()}
    return weighted_cross_entropy(unimodal_logits, labels, weights, check=check)


def weighted_cross_entropy(
    unimodal_logits: Mapping[str, Tensor],
    labels: Tensor,
    weights: Mapping[str, Tensor],
    *,
    check: bool | None = None,
) -> Tensor:
    """Return Σ_m mean_i w_i^m CE_i^m for weights that are already there.

    Parameters
    ----------
    unimodal_logits
        {modality: (B, C)}.
    labels
        (B,) int64 in [0, C).
    weights
        {modality: (B,)}, from :func:`gsc_weights`; detached here in any case.
    check
        Whether the range of the labels is checked; ``None``: for CPU tensors outside ``torch.compile`` only.

    Returns
    -------
    Tensor
        0-d, float32 or wider.

    Raises
    ------
    TypeError, ValueError
        As :func:`gsc_loss`; and if `weights` lacks a modality or has another shape.

    Examples
    --------
    >>> logits = {"audio": torch.zeros(2, 4)}
    >>> weights = {"audio": torch.tensor([1.0, 0.0])}
    >>> weighted_cross_entropy(logits, torch.tensor([0, 3]), weights)  # half of log 4
    tensor(0.6931)
    """
    shape = _checks.logits_by_modality(unimodal_logits)
    _checks.class_labels(labels, shape, check)
    for modality in unimodal_logits:
        if modality not in weights:
            raise ValueError(f"weights must hold every modality, got {sorted(weights)} without {modality!r}")
        if tuple(weights[modality].shape) != shape[:1]:
            raise ValueError(
                f"weights[{modality!r}] must have the shape ({shape[0]},) of the labels, "
                f"got {tuple(weights[modality].shape)}"
            )
    # One call over all rows: on CUDA the form for more dimensions is refused under deterministic algorithms.
    rows = torch.cat(list(unimodal_logits.values()))
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    entropy = cross_entropy(rows, labels.repeat(len(unimodal_logits)), reduction="none")
    weight = torch.cat([weights[modality] for modality in unimodal_logits]).detach()
    return (weight * entropy).sum() / shape[0]
