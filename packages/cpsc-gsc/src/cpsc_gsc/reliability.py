"""How far each modality agrees with the collaborative decision, sample by sample, and the weight that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from conformal_core import LAC, ResidualScore, rank_reliability
from cpsc_gsc import _checks

Score = Callable[..., Tensor]
"""A nonconformity score: (…, C) probabilities in, (…, C) scores of all labels out; takes the keyword ``check``."""
Kind = Literal["normalized", "reciprocal", "probability"]
LEAST_AMBIGUOUS: Score = LAC()
"""The default score, one minus the probability of the label."""


def collaborative_reliability(
    unimodal_logits: Mapping[str, Tensor],
    fused_logits: Tensor,
    *,
    qhat: Mapping[str, Tensor],
    score: Score = LEAST_AMBIGUOUS,
    kind: Kind = "normalized",
    check: bool | None = None,
) -> dict[str, Tensor]:
    """Return the conformal reliability of each modality with respect to the fused decision.

    The fused prediction y' = argmax F stands in for the label, so that a modality is measured by whether it agrees
    with all modalities together and not by whether it has memorised its labels: ``ρ = 1 − rank(y', C) / |C|`` inside
    the modality's prediction set C = {y : s(x, y) ≤ q̂}, and 0 where y' ∉ C.

    Parameters
    ----------
    unimodal_logits
        {modality: (B, C)}, the logits of each modality's own head; with a score of regression its predictions, (B,) or
        (B, columns).
    fused_logits
        (B, C), the logits of all modalities together, or their prediction.
    qhat
        {modality: 0-d}, the conformal quantile of the scores of that modality's head; +∞ is allowed.
    score
        Nonconformity score, the one that `qhat` was computed with. With a score of regression, such as
        ``AbsoluteResidual()`` or ``CQR()``, y' is the target that the fused prediction stands for, and ρ is how deep it
        lies in the modality's prediction interval: `conformal_core.ResidualScore.reliability`, the limit of
        ``normalized`` for arbitrarily fine classes and the only kind there.
    kind
        ``"normalized"`` as above; ``"reciprocal"``: 1 / (rank + 1) inside the set; or ``"probability"``: that of y',
        which no prediction set has a part in, for comparison.
    check
        Whether values are checked, which a device has to be waited for. ``None``: for CPU tensors outside
        ``torch.compile`` only.

    Returns
    -------
    dict of Tensor
        {modality: (B,)} in [0, 1], without gradient, float32 or wider.

    Raises
    ------
    TypeError
        If logits are not floating tensors, or q̂ of a modality is not a tensor.
    ValueError
        If shapes differ, q̂ of a modality is missing, or (checked) a value is not finite.

    Notes
    -----
    Section "Gradient Self-Calibration" of arXiv:2605.03820. Probabilities are taken in float32 at least; take them
    the same way in calibration, because sets compare scores.

    Examples
    --------
    >>> logits = {"audio": torch.tensor([[2.0, 1.0, -3.0], [0.0, 3.0, 0.0]])}
    >>> fused = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    >>> collaborative_reliability(logits, fused, qhat={"audio": torch.tensor(0.9)})
    {'audio': tensor([0.5000, 1.0000])}

    Regression, where the interval of the audio is 2 ± 1:

    >>> from conformal_core import AbsoluteResidual
    >>> audio, fused = torch.tensor([2.0, 2.0]), torch.tensor([2.25, 4.0])
    >>> collaborative_reliability({"audio": audio}, fused, qhat={"audio": torch.tensor(1.0)}, score=AbsoluteResidual())
    {'audio': tensor([0.7500, 0.0000])}
    """
    if isinstance(score, ResidualScore):
        return _of_predictions(unimodal_logits, fused_logits, qhat=qhat, score=score, kind=kind, check=check)
    shape = _checks.logits_by_modality(unimodal_logits)
    _checks.fused(fused_logits, shape, check)
    _checks.quantiles(qhat, unimodal_logits)
    with torch.no_grad():  # all modalities in one call: (M, B, C)
        stacked = torch.stack(list(unimodal_logits.values()))
        thresholds = torch.stack([qhat[modality] for modality in unimodal_logits])[:, None]
        probs = stacked.softmax(dim=-1, dtype=torch.promote_types(stacked.dtype, torch.float32))
        decided = fused_logits.argmax(dim=-1)
        if kind == "probability":
            rho = probs.gather(-1, decided.expand(probs.shape[:-1])[..., None])[..., 0]
        else:
            rho = rank_reliability(score(probs, check=check), decided, thresholds, kind=kind, check=check)
    return dict(zip(unimodal_logits, rho.unbind(), strict=True))


@torch.no_grad()
def _of_predictions(
    unimodal: Mapping[str, Tensor],
    fused: Tensor,
    *,
    qhat: Mapping[str, Tensor],
    score: ResidualScore,
    kind: Kind,
    check: bool | None,
) -> dict[str, Tensor]:
    if kind != "normalized":
        raise ValueError(f"kind must be 'normalized' with a score of regression, got {kind!r}")
    predictions, rows = _checks.predictions_by_modality(unimodal, score.columns)
    fused = _checks.predictions("fused_logits", fused, rows, score.columns)
    _checks.quantiles(qhat, unimodal)
    wide = torch.promote_types(fused.dtype, torch.float32)
    decided = score.point(fused.to(wide))
    return {m: score.reliability(said.to(wide), decided, qhat[m], check=check) for m, said in predictions.items()}


def gsc_weights(reliability: Tensor, *, a: float = 0.6, b: float = 0.6) -> Tensor:
    """Return the gradient weights w = aρ + b.

    Parameters
    ----------
    reliability
        ρ of one modality, any shape, in [0, 1].
    a, b
        Slope and intercept, not negative. With the default .6 and .6 weights lie in [.6, 1.2]; a = 0, b = 1 is plain
        unimodal cross-entropy.

    Returns
    -------
    Tensor
        The weights in [b, a + b], shape of `reliability`, without gradient.

    Raises
    ------
    TypeError, ValueError
        If `reliability` is no tensor, or `a` or `b` is not a finite number ≥ 0.

    Examples
    --------
    >>> gsc_weights(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.6000, 0.9000, 1.2000])
    """
    _checks.one_modality(reliability)
    _checks.coefficients(a, b)
    return reliability.detach() * a + b
