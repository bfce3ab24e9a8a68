"""Which components to trust: reliability, deterministic top-K, recomposition.

Shape legend: B batch, n components, K kept, d feature width, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from conformal_core import LAC, ResidualScore, rank_reliability
from cpsc_rsc._checks import (
    check_callable,
    check_components,
    check_count,
    check_labels,
    check_logits,
    check_per_component,
    check_predictions,
    check_qhat,
    check_selected,
    check_targets,
    check_values,
    check_values_of_targets,
    wants_value_checks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Reliability: TypeAlias = Literal["normalized", "reciprocal", "probability"]
Recomposition: TypeAlias = Literal["mean", "weighted"]
Head: TypeAlias = "Callable[[Tensor], Tensor]"
Score: TypeAlias = "Callable[..., Tensor]"

DEFAULT_SCORE: Score = LAC()


class Rated(NamedTuple):
    """Components as a conformal predictor sees them; both fields have shape (B, n) and no gradient."""

    reliability: Tensor
    score: Tensor


def rate(
    components: Tensor,
    labels: Tensor,
    *,
    head: Head,
    qhat: Tensor,
    score: Score = DEFAULT_SCORE,
    kind: Reliability = "normalized",
    check: bool | None = None,
) -> Rated:
    """Rate each component by the rank of its label in the prediction set of the component.

    The head sees the components as one batch (B·n, d), its answer is detached, and, if it is a module, it is in eval
    mode: q̂ was found with dropout off, and running statistics must not learn from components. Modes are put back.

    Parameters
    ----------
    components : Tensor, shape (B, n, d)
    labels : integer Tensor, shape (B,)
        With a score of regression: floating targets.
    head : callable, (B·n, d) -> (B·n, C)
        Returns logits; with a score of regression its predictions, (B·n,) or (B·n, columns).
    qhat : Tensor, 0-d
        Calibrated quantile of `score` for this head; +inf is allowed (every class is in the set).
    score : callable
        Nonconformity score of conformal-core; ``LAC()`` by default. With a score of regression such as
        ``AbsoluteResidual()`` or ``CQR()``, reliability is how deep the target lies in its prediction interval,
        `conformal_core.ResidualScore.reliability`, the limit of ``normalized`` for arbitrarily fine classes.
    kind : {"normalized", "reciprocal", "probability"}
        ``1 − rank/|set|`` or ``1/(rank + 1)``, both 0 when the label is outside the set; or the probability of the
        label, which no prediction set has a part in: for comparison, with a head whose softmax is a posterior.
        ``normalized`` alone with a score of regression.
    check : bool, optional
        Look at values (label range, finite logits).  None: only for CPU tensors outside `torch.compile`.

    Returns
    -------
    Rated
        Reliability in {0} ∪ (0, 1] and the score of the label, both of shape (B, n).

    Raises
    ------
    TypeError, ValueError
        If labels, q̂ or the head's output do not fit.

    Examples
    --------
    >>> import torch
    >>> components = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
    >>> rate(components, torch.tensor([0]), head=torch.nn.Identity(), qhat=torch.tensor(0.5)).reliability
    tensor([[1., 0.]])
    """
    check_components("components", components)
    batch, n, _ = components.shape
    check_kind(score, kind)
    if isinstance(score, ResidualScore):
        check_targets(labels, batch)
    else:
        labels = check_labels(labels, batch)
    check_qhat(qhat)
    check_callable("head", head)
    # Not under `no_grad`: before torch 2.11 a product there leaves autocast with weights that have no gradient, and the
    # loss would use them.
    said = _evaluate(head, components.detach().flatten(0, 1))
    if isinstance(score, ResidualScore):
        return _rate_targets(said, labels, (batch, n), qhat=qhat, score=score, check=check)
    return _rate_labels(said, labels, (batch, n), qhat=qhat, score=score, kind=kind, check=check)


def check_kind(score: Score, kind: Reliability) -> None:
    """Refuse a kind of reliability that a score of regression does not have."""
    if isinstance(score, ResidualScore) and kind != "normalized":
        raise ValueError(f"reliability must be 'normalized' with a score of regression, got {kind!r}")


def decided(score: Score, fused: Tensor, batch: int) -> Tensor:
    """Return the labels, or with a score of regression the targets, (B,), that a fused output stands for."""
    if isinstance(score, ResidualScore):
        point: Tensor = score.point(check_predictions("predict", fused, batch, score.columns))
        return point
    check_logits("predict", fused, batch)
    return fused.argmax(dim=-1)


@torch.no_grad()
def _rate_labels(
    logits: Tensor,
    labels: Tensor,
    shape: tuple[int, int],
    *,
    qhat: Tensor,
    score: Score,
    kind: Reliability,
    check: bool | None,
) -> Rated:
    check_logits("head", logits, shape[0] * shape[1])
    logits = logits.detach().reshape(*shape, logits.shape[-1])
    # Scores are compared with q̂, so they keep at least float32 whatever autocast did to the logits.
    probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1)
    scores = score(probabilities, check=False)
    if wants_value_checks(scores, check):
        check_values(scores, labels, qhat)
    labels = labels.unsqueeze(-1).expand(shape)
    if kind == "probability":
        reliability = probabilities.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    else:
        reliability = rank_reliability(scores, labels, qhat, kind=kind, check=False)
    return Rated(reliability, scores.gather(-1, labels.unsqueeze(-1)).squeeze(-1))


@torch.no_grad()
def _rate_targets(
    predictions: Tensor,
    targets: Tensor,
    shape: tuple[int, int],
    *,
    qhat: Tensor,
    score: ResidualScore,
    check: bool | None,
) -> Rated:
    predictions = check_predictions("head", predictions, shape[0] * shape[1], score.columns).detach()
    predictions = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
    predictions = predictions.reshape(*shape, *predictions.shape[1:])
    if wants_value_checks(predictions, check):
        check_values_of_targets(predictions, targets, qhat)
    targets = targets.to(predictions.dtype).unsqueeze(-1).expand(shape)
    return Rated(score.reliability(predictions, targets, qhat, check=False), score(predictions, targets, check=False))


def _evaluate(head: Head, x: Tensor) -> Tensor:
    training = [m for m in head.modules() if m.training] if isinstance(head, nn.Module) else []
    try:
        for module in training:
            module.training = False
        return head(x)
    finally:
        for module in training:
            module.training = True


def top_k(reliability: Tensor, score: Tensor, k: int) -> Tensor:
    """Select the k most reliable components; ties go to the smaller score, then to the lower index.

    Stable sorts from the last key to the first: the same on every device, with no wait for the host.

    Parameters
    ----------
    reliability, score : Tensor, shape (B, n)
    k : int

    Returns
    -------
    integer Tensor, shape (B, k)
        Indices, best first.

    Raises
    ------
    TypeError, ValueError
        If shapes or dtypes do not fit, or k is not an integer from 1 to n.

    Examples
    --------
    >>> import torch
    >>> top_k(torch.tensor([[0.5, 1.0, 1.0, 1.0]]), torch.tensor([[0.1, 0.3, 0.2, 0.3]]), 3)
    tensor([[2, 1, 3]])
    """
    check_per_component("reliability", reliability)
    check_per_component("score", score, tuple(reliability.shape))
    if check_count("k", k) > reliability.shape[-1]:
        raise ValueError(f"k must be at most the number of components ({reliability.shape[-1]}), got {k}")
    by_score = score.argsort(dim=-1, stable=True)
    by_reliability = reliability.gather(-1, by_score).argsort(dim=-1, stable=True, descending=True)
    return by_score.gather(-1, by_reliability[..., :k])


def recompose(
    components: Tensor, selected: Tensor, reliability: Tensor | None = None, *, check: bool | None = None
) -> Tensor:
    """Average the selected components, by their reliability if it is given.

    Proposition 1 of the source: for any reference v, ``‖h̃ − v‖ ≤ Σ_k w_k ‖c_k − v‖ ≤ max_k ‖c_k − v‖`` over the
    selected components, because the weights w are not negative and sum to one (the triangle inequality).

    Parameters
    ----------
    components : Tensor, shape (B, n, d)
    selected : integer Tensor, shape (B, K)
    reliability : Tensor, shape (B, n), optional
        Weights ∝ reliability; equal weights where all selected components have reliability 0, or if None.
    check : bool, optional
        Look at the indices.  None: only for CPU tensors outside `torch.compile`.

    Returns
    -------
    Tensor, shape (B, d)

    Raises
    ------
    TypeError, ValueError
        If shapes or dtypes do not fit, or an index is no component.

    Examples
    --------
    >>> import torch
    >>> c = torch.tensor([[[0.0], [2.0], [8.0]]])
    >>> recompose(c, torch.tensor([[0, 2]]))
    tensor([[4.]])
    >>> recompose(c, torch.tensor([[0, 2]]), torch.tensor([[0.25, 0.0, 0.75]]))
    tensor([[6.]])
    """
    check_components("components", components)
    batch, n, _ = components.shape
    check_selected(selected, batch, n, check=check)
    if reliability is not None:
        check_per_component("reliability", reliability, (batch, n))
    selected = selected.long()
    rows = torch.arange(selected.shape[0], device=selected.device).unsqueeze(-1)
    kept = components[rows, selected]
    if reliability is None:
        return kept.mean(dim=1)
    weights = reliability.gather(-1, selected)
    total = weights.sum(dim=-1, keepdim=True)
    weights = torch.where(total > 0, weights / total.clamp_min(torch.finfo(weights.dtype).tiny), 1 / selected.shape[-1])
    return (weights.unsqueeze(-1).to(kept.dtype) * kept).sum(dim=1)
