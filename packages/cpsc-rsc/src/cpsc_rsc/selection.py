"""Selection of components: reliability, deterministic top-K, recomposition.

Shape legend: B batch, n components, K selected, d feature width, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn

from conformal_core import LAC, NonconformityScore
from conformal_core.checks import check_callable, check_count
from cpsc_rsc._checks import check_qhat, check_selected, check_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformal_core.scores.nonconformity import ReliabilityKind

Recomposition: TypeAlias = Literal["mean", "weighted"]
Head: TypeAlias = "Callable[[Tensor], Tensor]"

DEFAULT_SCORE: NonconformityScore = LAC()


def component_reliability(
    components: Tensor,
    labels: Tensor,
    *,
    head: Head,
    qhat: Tensor,
    score: NonconformityScore = DEFAULT_SCORE,
    kind: ReliabilityKind = "normalized",
    check: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the reliability of each component, and the score that its head gives the label.

    Reliability is the rank of the label in the component's prediction set; with a regression score, how deep the target
    lies in the component's prediction interval. See `conformal_core.ClassificationScore.score_and_reliability` and
    `conformal_core.RegressionScore.score_and_reliability`.

    The head gets the components as one batch (B·n, d), without gradient. A module is in evaluation mode meanwhile,
    because q̂ was computed without dropout and running statistics must not be updated by components.

    Parameters
    ----------
    components : Tensor, shape (B, n, d)
    labels : integer Tensor, shape (B,)
        Labels, or floating targets with a regression score.
    head : callable, (B·n, d) -> (B·n, C)
        Returns logits; with a regression score, predictions (B·n,), (B·n, 1) or (B·n, columns).
    qhat : Tensor, 0-d
        Conformal quantile of `score` for this head; +∞ is allowed.
    score : conformal_core.NonconformityScore
        A `ClassificationScore`, or a `RegressionScore` such as ``AbsoluteResidual()``.
    kind : {"normalized", "reciprocal", "probability"}
        ``1 − rank/|set|`` or ``1/(rank + 1)``, both 0 if the label is outside the set; or, for comparison, the
        probability of the label. Regression scores have ``normalized`` only.
    check : bool, optional
        Whether to check values (finite, labels in range). If None, only those of CPU tensors outside `torch.compile`.

    Returns
    -------
    reliability : Tensor, shape (B, n)
        In {0} ∪ (0, 1], without gradient, float32 or wider.
    scores : Tensor, shape (B, n)

    Raises
    ------
    TypeError, ValueError
        If labels, q̂, `kind` or the output of the head does not fit.

    Examples
    --------
    >>> import torch
    >>> components = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
    >>> component_reliability(components, torch.tensor([0]), head=torch.nn.Identity(), qhat=torch.tensor(0.5))[0]
    tensor([[1., 0.]])
    """
    check_tensor("components", components, ("B", "n", "d"))
    batch, n, _ = components.shape
    score.check_kind(kind)
    check_qhat(qhat)
    check_callable("head", head)
    # Not under `no_grad`: before torch 2.11 a product there leaves autocast with weights that have no gradient, and the
    # loss would use them.
    output = score.check_output("output of head", _evaluate(head, components.detach().flatten(0, 1)), batch * n)
    with torch.no_grad():
        predictions = score.activation(output).reshape(batch, n, *output.shape[1:])
        labels = score.check_labels(labels, predictions, check=check).unsqueeze(-1)
        scores, reliability = score.score_and_reliability(predictions, labels, qhat, kind=kind, check=check)
    return reliability, scores


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

    Stable sorts from the last key to the first: the same result on every device, without a host sync.

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
    check_tensor("reliability", reliability, ("B", "n"))
    check_tensor("score", score, tuple(reliability.shape))
    if check_count("k", k) > reliability.shape[-1]:
        raise ValueError(f"k must be at most the number of components ({reliability.shape[-1]}), got {k}")
    by_score = score.argsort(dim=-1, stable=True)
    by_reliability = reliability.gather(-1, by_score).argsort(dim=-1, stable=True, descending=True)
    return by_score.gather(-1, by_reliability[..., :k])


def recompose(
    components: Tensor, selected: Tensor, reliability: Tensor | None = None, *, check: bool | None = None
) -> Tensor:
    """Average the selected components, weighted by their reliability if it is given.

    Proposition 1 of arXiv:2605.03820: for any reference v, ``‖h̃ − v‖ ≤ Σ_k w_k ‖c_k − v‖ ≤ max_k ‖c_k − v‖`` over the
    selected components, because the weights w are not negative and sum to one (the triangle inequality).

    Parameters
    ----------
    components : Tensor, shape (B, n, d)
    selected : integer Tensor, shape (B, K)
    reliability : Tensor, shape (B, n), optional
        Weights are proportional to it. If None, or where it is 0 for all selected components, weights are equal.
    check : bool, optional
        Whether to check the indices. If None, only those of CPU tensors outside `torch.compile`.

    Returns
    -------
    Tensor, shape (B, d)

    Raises
    ------
    TypeError, ValueError
        If a shape, a dtype or an index does not fit.

    Examples
    --------
    >>> import torch
    >>> c = torch.tensor([[[0.0], [2.0], [8.0]]])
    >>> recompose(c, torch.tensor([[0, 2]]))
    tensor([[4.]])
    >>> recompose(c, torch.tensor([[0, 2]]), torch.tensor([[0.25, 0.0, 0.75]]))
    tensor([[6.]])
    """
    check_tensor("components", components, ("B", "n", "d"))
    batch, n, _ = components.shape
    check_selected(selected, batch, n, check=check)
    if reliability is not None:
        check_tensor("reliability", reliability, (batch, n))
    selected = selected.long()
    rows = torch.arange(batch, device=selected.device).unsqueeze(-1)
    kept = components[rows, selected]
    if reliability is None:
        return kept.mean(dim=1)
    weights = reliability.gather(-1, selected)
    total = weights.sum(dim=-1, keepdim=True)
    weights = torch.where(total > 0, weights / total.clamp_min(torch.finfo(weights.dtype).tiny), 1 / selected.shape[-1])
    return (weights.unsqueeze(-1).to(kept.dtype) * kept).sum(dim=1)
