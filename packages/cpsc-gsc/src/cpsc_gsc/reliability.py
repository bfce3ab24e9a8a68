"""How far each modality agrees with the collaborative decision, sample by sample, and the weight that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from conformal_core import LAC, rank_reliability
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
        {modality: (B, C)}, the logits of each modality's own head.
    fused_logits
        (B, C), the logits of all modalities together.
    qhat
        {modality: 0-d}, the conformal quantile of the scores of that modality's head; +∞ is allowed.
    score
        Nonconformity score, the one that `qhat` was computed with.
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
    """
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
