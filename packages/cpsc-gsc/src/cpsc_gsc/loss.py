"""Gradient self-calibration as a loss: one backward pass gives the modulated unimodal gradient with everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from conformal_core import ResidualScore
from cpsc_gsc import _checks
from cpsc_gsc.reliability import LEAST_AMBIGUOUS, Kind, Score, collaborative_reliability, gsc_weights

Loss = Callable[[Tensor, Tensor], Tensor]
"""From what a head says, (B, ...), and labels (B,) to the loss of each sample, (B,)."""


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
    loss: Loss | None = None,
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
        {modality: (B, C)}, the logits of each modality's own head; with a score of regression its predictions.
    labels
        (B,) integers in [0, C); floating targets with a score of regression.
    fused_logits
        (B, C), or the fused predictions; only what they decide is used, so no gradient flows into them.
    qhat
        {modality: 0-d}, the conformal quantile of the scores of that modality's head.
    a, b
        Slope and intercept of the weight, not negative.
    score, kind, check
        As in :func:`collaborative_reliability`; `check` also covers the range of the labels.
    loss
        What is weighted: from a head's logits or predictions and the labels to one figure a sample, (B,). Cross-entropy
        if absent; a score of regression needs one, such as ``partial(mse_loss, reduction="none")``.

    Returns
    -------
    Tensor
        0-d, float32 or wider.

    Raises
    ------
    TypeError
        If a logit, label or q̂ is not a tensor of the right kind.
    ValueError
        If shapes differ, q̂ of a modality is missing, `a` or `b` is negative, (checked) a label is out of range, or a
        score of regression is given without a loss.

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
    >>> from functools import partial
    >>> from conformal_core import AbsoluteResidual
    >>> gsc_loss(
    ...     {"audio": torch.tensor([1.0, 2.0])},
    ...     torch.tensor([2.0, 2.0]),
    ...     fused_logits=torch.tensor([1.0, 2.0]),
    ...     qhat={"audio": torch.tensor(0.9)},
    ...     score=AbsoluteResidual(),
    ...     loss=partial(torch.nn.functional.mse_loss, reduction="none"),
    ... )
    tensor(0.6000)
    """
    check_loss(score, loss)
    reliability = collaborative_reliability(
        unimodal_logits, fused_logits, qhat=qhat, score=score, kind=kind, check=check
    )
    weights = {modality: gsc_weights(rho, a=a, b=b) for modality, rho in reliability.items()}
    return weighted(unimodal_logits, labels, weights, score=score, loss=loss, check=check)


def check_loss(score: Score, loss: Loss | None) -> None:
    """Refuse a score of regression without a loss, since there is none that all of regression shares."""
    if isinstance(score, ResidualScore) and loss is None:
        raise ValueError(f"loss must be given with a score of regression such as {score}, got None")


def weighted(
    unimodal_logits: Mapping[str, Tensor],
    labels: Tensor,
    weights: Mapping[str, Tensor],
    *,
    score: Score,
    loss: Loss | None,
    check: bool | None,
) -> Tensor:
    """Return Σ_m mean_i w_i^m ℓ_i^m of a loss ℓ that the caller may have chosen."""
    if loss is None:
        return weighted_cross_entropy(unimodal_logits, labels, weights, check=check)
    said = dict(unimodal_logits)
    if isinstance(score, ResidualScore):
        said, rows = _checks.predictions_by_modality(unimodal_logits, score.columns)
        _checks.targets(labels, rows, check)
    else:
        labels = _checks.class_labels(labels, _checks.logits_by_modality(unimodal_logits), check)
    parts = []
    for modality, output in said.items():
        each = loss(output, labels)
        if tuple(each.shape) != tuple(labels.shape):
            raise ValueError(
                f"loss must return one figure a sample, of the shape {tuple(labels.shape)}, got {tuple(each.shape)}"
            )
        parts.append((weights[modality].detach() * each).mean())
    return torch.stack(parts).sum()


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
        (B,) integers in [0, C).
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
    labels = _checks.class_labels(labels, shape, check)
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
