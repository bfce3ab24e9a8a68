"""Gradient self-calibration as a loss, whose backward pass gives the weighted unimodal gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from conformal_core import NonconformityScore
from conformal_core.checks import check_score, check_shape
from conformal_core.scores.nonconformity import ReliabilityKind
from cpsc_gsc._checks import check_loss, check_modalities, check_outputs
from cpsc_gsc.reliability import DEFAULT_SCORE, collaborative_reliability, gsc_weights

Loss = Callable[[Tensor, Tensor], Tensor]
"""From the output of a head, (B, ...), and labels or targets (B,) to the loss of each sample, (B,)."""


def gsc_loss(
    unimodal_logits: Mapping[str, Tensor],
    labels: Tensor,
    *,
    fused_logits: Tensor,
    qhat: Mapping[str, Tensor],
    a: float = 0.6,
    b: float = 0.6,
    score: NonconformityScore = DEFAULT_SCORE,
    reliability: ReliabilityKind = "normalized",
    loss: Loss | None = None,
    present: Mapping[str, Tensor] | None = None,
    check: bool | None = None,
) -> Tensor:
    """Return Σ_m mean_i w_i^m CE_i^m, whose gradient is the weighted unimodal gradient of GSC.

    The weights w = aρ + b come from :func:`collaborative_reliability` and carry no gradient, so adding this to a loss
    adds ∇L_GSC = (1/B) Σ_i w_i ∇CE_i of each modality to its gradient. To log ρ, write out the three calls::

        rho = collaborative_reliability(unimodal_logits, fused_logits=fused_logits, qhat=qhat)
        weights = {m: gsc_weights(r, a=0.6, b=0.6) for m, r in rho.items()}
        loss = loss + weighted_cross_entropy(unimodal_logits, labels, weights)

    Parameters
    ----------
    unimodal_logits, fused_logits, qhat, score, check
        As for :func:`collaborative_reliability`; no gradient flows into `fused_logits`, and `check` also covers the
        labels.
    reliability
        `kind` of :func:`collaborative_reliability`.
    labels
        (B,) integers in [0, C), or floating targets with a regression score.
    a, b
        Slope and intercept of the weight, at least 0.
    loss
        Maps the output of a head and the labels to one loss for each sample, (B,). If None, cross-entropy; a regression
        score needs one, such as ``partial(mse_loss, reduction="none")``.
    present
        {modality: (B,)} booleans, true for samples that have the modality. The mean of each modality is over these
        samples, or 0 if there are none. A modality that is not listed is present in all samples.

    Returns
    -------
    Tensor
        0-d, float32 or wider.

    Raises
    ------
    TypeError
        If a logit, label or q̂ is not a tensor of the right kind.
    ValueError
        If shapes differ, q̂ of a modality is missing, `a` or `b` is negative, a regression score comes without a loss,
        or a label is out of range (where values are checked).

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
    check_score(score, "score_and_reliability")
    score.check_kind(reliability, "reliability")
    rho = collaborative_reliability(
        unimodal_logits, fused_logits=fused_logits, qhat=qhat, score=score, kind=reliability, check=check
    )
    weights = {m: gsc_weights(r, a=a, b=b) for m, r in rho.items()}
    return weighted_loss(unimodal_logits, labels, weights, score=score, loss=loss, present=present, check=check)


def weighted_loss(
    unimodal_logits: Mapping[str, Tensor],
    labels: Tensor,
    weights: Mapping[str, Tensor],
    *,
    score: NonconformityScore,
    loss: Loss | None,
    present: Mapping[str, Tensor] | None = None,
    check: bool | None,
) -> Tensor:
    """Return Σ_m mean_i w_i^m ℓ_i^m of a loss ℓ, by default cross-entropy."""
    check_loss(loss, score)
    if loss is None:
        return weighted_cross_entropy(unimodal_logits, labels, weights, present=present, check=check)
    outputs = check_outputs(unimodal_logits, score)
    labels = score.check_labels(labels, next(iter(outputs.values())), check=check)
    losses = {m: loss(output, labels) for m, output in outputs.items()}
    for values in losses.values():
        if tuple(values.shape) != tuple(labels.shape):
            raise ValueError(
                f"loss must return one value for each sample, of shape {tuple(labels.shape)}, got {tuple(values.shape)}"
            )
    weights = {m: _of_present(weights[m].detach(), m, present) for m in losses}
    return torch.stack([(weights[m] * values).mean() for m, values in losses.items()]).sum()


def weighted_cross_entropy(
    unimodal_logits: Mapping[str, Tensor],
    labels: Tensor,
    weights: Mapping[str, Tensor],
    *,
    present: Mapping[str, Tensor] | None = None,
    check: bool | None = None,
) -> Tensor:
    """Return Σ_m mean_i w_i^m CE_i^m for given weights.

    Parameters
    ----------
    unimodal_logits
        {modality: (B, C)}.
    labels
        (B,) integers in [0, C).
    weights
        {modality: (B,)}, from :func:`gsc_weights`; always detached.
    present
        As for :func:`gsc_loss`. Logits of samples that lack the modality must be finite.
    check
        Whether to check the range of the labels. If None, only of CPU tensors outside ``torch.compile``.

    Returns
    -------
    Tensor
        0-d, float32 or wider.

    Raises
    ------
    TypeError, ValueError
        As for :func:`gsc_loss`, and if `weights` lacks a modality or has another shape.

    Examples
    --------
    >>> logits = {"audio": torch.zeros(2, 4)}
    >>> weights = {"audio": torch.tensor([1.0, 0.0])}
    >>> weighted_cross_entropy(logits, torch.tensor([0, 3]), weights)  # half of log 4
    tensor(0.6931)
    """
    outputs = check_outputs(unimodal_logits, DEFAULT_SCORE)
    labels = DEFAULT_SCORE.check_labels(labels, next(iter(outputs.values())), check=check)
    check_modalities("weights", weights, outputs)
    for m in outputs:
        check_shape(f"weights[{m!r}]", weights[m], tuple(labels.shape))
    # One call over all rows: on CUDA the form for more dimensions is refused under deterministic algorithms.
    rows = torch.cat(list(outputs.values()))
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    entropy = cross_entropy(rows, labels.repeat(len(outputs)), reduction="none")
    weight = torch.cat([_of_present(weights[m].detach(), m, present) for m in outputs])
    return (weight * entropy).sum() / labels.shape[0]


def _of_present(weights: Tensor, modality: str, present: Mapping[str, Tensor] | None) -> Tensor:
    """Return weights (B,), 0 for samples without the modality, scaled so that a mean over B is one over the others."""
    if present is None or modality not in present:
        return weights
    mask = present[modality]
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise TypeError(f"present[{modality!r}] must be a tensor of booleans, got {kind}")
    check_shape(f"present[{modality!r}]", mask, tuple(weights.shape))
    return torch.where(mask, weights, 0.0) * (len(mask) / mask.sum().clamp(min=1))
