"""DBF: opinions are discounted by their conflict with all others, then averaged, independently of their order.

Source: Bezirganyan et al., *Multimodal Learning with Uncertainty Quantification based on Discounted Belief Fusion*,
AISTATS 2025.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cpsc_train.methods.evidential import ECML
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, POSITIVE, MethodConfig, Range

LEAST, MOST = 1e-12, 1 - 1e-6
"""Bounds of a conflict, which keep the gradients of powers finite."""


class DBF(ECML):
    """ECML with discounted opinions; a modality that a sample lacks has no evidence and conflicts with none."""

    config: DBFConfig  # type: ignore[assignment]

    def fuse(self, alphas: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Return the α (B, C) of the decision, of the mean discounted evidence of the modalities that a sample has."""
        return discounted(alphas, self.config.exponent, mask)


@dataclass(frozen=True, kw_only=True)
class DBFConfig(MethodConfig, name="dbf"):
    """Discounted belief fusion: evidence discounted by conflict, then averaged, and a loss on conflict."""

    source = (
        "Bezirganyan et al., Multimodal Learning with Uncertainty Quantification based on Discounted Belief Fusion, "
        "AISTATS 2025"
    )
    method = DBF
    rules = {"annealing": COUNT, "conflict": NOT_NEGATIVE, "exponent": POSITIVE}
    shares = {"annealing": 0.05}
    search = {
        "annealing": Range(0.02, 2.5, log=True, share=True),
        "conflict": Range(0.1, 4.0, log=True),
        "exponent": Range(0.5, 4.0, log=True),
    }

    annealing: int = 50
    """Epochs over which the weight of the divergence from ignorance rises to 1; the source has 50 of 1000."""
    conflict: float = 1.0
    """Weight of the conflict between opinions that are both certain."""
    exponent: float = 1.0
    """λ of the discount; a larger value tolerates small conflicts."""


def discounted(alphas: Sequence[Tensor], exponent: float, mask: Tensor | None = None) -> Tensor:
    """Return the α (B, C) of the mean evidence of discounted opinions.

    With belief b = e / S and uncertainty u = C / S, the conflict is d_ij = ½ Σ_k |p_ik − p_jk| (1 − u_i)(1 − u_j) and
    the discount η_i = Π_{j≠i} (1 − d_ij^λ)^{1/λ}. Opinion i becomes ηb with the uncertainty ηu + 1 − η, and the
    evidence of the decision is the mean of C b_i / u_i over the modalities that a sample has by `mask` (M, B).

    Examples
    --------
    >>> one, other = torch.tensor([[7.0, 1.0]]), torch.tensor([[3.0, 3.0]])
    >>> torch.equal(discounted([one, one], 1.0), discounted([one, one], 1.0))
    True
    >>> discounted([one, other], 1.0).equal(discounted([other, one], 1.0))
    True
    """
    stacked = torch.stack(list(alphas))
    classes = stacked.shape[-1]
    strengths = stacked.sum(-1)
    p, b, u = stacked / strengths[..., None], (stacked - 1) / strengths[..., None], classes / strengths
    apart = (p[:, None] - p[None]).abs().sum(-1) / 2
    conflict = (apart * (1 - u[:, None]) * (1 - u[None])).clamp(LEAST, MOST)
    kept = (1 - conflict**exponent) ** (1 / exponent)
    itself = torch.eye(len(stacked), dtype=torch.bool, device=stacked.device)[..., None]
    discount = kept.masked_fill(itself, 1.0).prod(1)
    evidence = classes * discount[..., None] * b / (discount * u + (1 - discount))[..., None]
    if mask is None:
        return evidence.mean(0) + 1
    return evidence.sum(0) / mask.sum(0).clamp(min=1)[:, None] + 1
