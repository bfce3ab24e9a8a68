"""Reliability of each modality with respect to the fused decision, and the gradient weight computed from it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from conformal_core import LAC, NonconformityScore
from conformal_core.checks import check_nonnegative
from conformal_core.scores.nonconformity import ReliabilityKind
from cpsc_gsc._checks import check_fused, check_outputs, check_qhat

DEFAULT_SCORE: NonconformityScore = LAC()


def collaborative_reliability(
    unimodal_logits: Mapping[str, Tensor],
    *,
    fused_logits: Tensor,
    qhat: Mapping[str, Tensor],
    score: NonconformityScore = DEFAULT_SCORE,
    kind: ReliabilityKind = "normalized",
    check: bool | None = None,
) -> dict[str, Tensor]:
    """Return the conformal reliability of each modality with respect to the fused decision.

    The fused decision y' = argmax F is used instead of the label, so a modality is measured by whether it agrees with
    all modalities together and not by whether it has memorised its labels: ``ρ = 1 − rank(y', C) / |C|`` inside the
    modality's prediction set C = {y : s(x, y) ≤ q̂}, and 0 where y' ∉ C.

    With a regression score, y' is the point that the fused prediction stands for, and ρ is how deep it lies in the
    modality's prediction interval: `conformal_core.RegressionScore.score_and_reliability`.

    Parameters
    ----------
    unimodal_logits
        {modality: (B, C)}, the logits of each modality's own head; with a regression score, its predictions (B,),
        (B, 1) or (B, columns).
    fused_logits
        (B, C), the logits of all modalities together, or their predictions.
    qhat
        {modality: 0-d}, the conformal quantile of `score` for that modality's head; +∞ is allowed.
    score
        A `conformal_core.ClassificationScore`, or a `conformal_core.RegressionScore` such as ``AbsoluteResidual()``.
    kind
        ``"normalized"`` as above; ``"reciprocal"``: 1 / (rank + 1) inside the set; or, for comparison,
        ``"probability"``: that of y', whatever the set. Regression scores have ``"normalized"`` only.
    check
        Whether to check values, which makes the host wait for a device. If None, only those of CPU tensors outside
        ``torch.compile``.

    Returns
    -------
    dict of Tensor
        {modality: (B,)} in [0, 1], without gradient, float32 or wider.

    Raises
    ------
    TypeError
        If logits are not floating tensors, or q̂ of a modality is not a tensor.
    ValueError
        If shapes differ, q̂ of a modality is missing, `kind` is unknown, or a value is not finite (where checked).

    Notes
    -----
    Section "Gradient Self-Calibration" of arXiv:2605.03820. Probabilities are computed in float32 or wider; do the same
    in calibration, because sets compare scores.

    Examples
    --------
    >>> logits = {"audio": torch.tensor([[2.0, 1.0, -3.0], [0.0, 3.0, 0.0]])}
    >>> fused = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    >>> collaborative_reliability(logits, fused_logits=fused, qhat={"audio": torch.tensor(0.9)})
    {'audio': tensor([0.5000, 1.0000])}

    Regression, where the interval of the audio is 2 ± 1:

    >>> from conformal_core import AbsoluteResidual
    >>> audio, fused = torch.tensor([2.0, 2.0]), torch.tensor([2.25, 4.0])
    >>> qhat, score = {"audio": torch.tensor(1.0)}, AbsoluteResidual()
    >>> collaborative_reliability({"audio": audio}, fused_logits=fused, qhat=qhat, score=score)
    {'audio': tensor([0.7500, 0.0000])}
    """
    outputs = check_outputs(unimodal_logits, score)
    fused = check_fused(fused_logits, next(iter(outputs.values())), score, check=check)
    check_qhat(qhat, outputs)
    with torch.no_grad():  # all modalities in one call: (M, B, C)
        predictions = score.activation(torch.stack(list(outputs.values())))
        thresholds = torch.stack([qhat[m] for m in outputs])[:, None]
        rho = score.reliability(predictions, score.decide(fused), thresholds, kind=kind, check=check)
    return dict(zip(outputs, rho.unbind(), strict=True))


def gsc_weights(reliability: Tensor, *, a: float = 0.6, b: float = 0.6) -> Tensor:
    """Return the gradient weights w = aρ + b.

    Parameters
    ----------
    reliability
        ρ of one modality, any shape, in [0, 1].
    a, b
        Slope and intercept, at least 0. The defaults give weights in [0.6, 1.2]; a = 0, b = 1 gives plain unimodal
        cross-entropy.

    Returns
    -------
    Tensor
        Weights in [b, a + b], of the shape of `reliability`, without gradient.

    Raises
    ------
    TypeError, ValueError
        If `reliability` is not a tensor, or `a` or `b` is not a finite number of at least 0.

    Examples
    --------
    >>> gsc_weights(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.6000, 0.9000, 1.2000])
    """
    if not isinstance(reliability, Tensor):
        raise TypeError(f"reliability must be the tensor of one modality, got {type(reliability).__name__}")
    check_nonnegative("a", a)
    check_nonnegative("b", b)
    return reliability.detach() * a + b
