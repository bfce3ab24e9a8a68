"""Decomposition of a feature vector into components of the same width.

Shape legend: B batch, n components, d feature width.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from conformal_core.checks import check_choice, check_count, check_interval
from cpsc_rsc._versions import refuse_newer

Kind: TypeAlias = Literal["linear", "mlp"]
Mixing: TypeAlias = Literal["convex", "additive"]

# A shorter component counts as zero. The smallest features tested have length 1e-6.
_NO_DIRECTION = 1e-12


def mix_residual(
    h: Tensor, components: Tensor, *, residual: float = 0.3, mixing: Mixing = "convex", match_magnitude: bool = True
) -> Tensor:
    """Mix components with the feature they were decomposed from.

    Returns ``(1 − γ)·h + γ·c`` (``convex``) or ``h + γ·c`` (``additive``), where c is first rescaled to the length of h
    if `match_magnitude` is set. A component of length zero, which ReLU can produce, stays zero; its gradient through
    the rescaling is zero too, never infinite.

    Parameters
    ----------
    h : Tensor, shape (B, d)
    components : Tensor, shape (B, n, d)
    residual : float in (0, 1]
        γ, the weight of the component; 1 with ``convex`` leaves components unmixed.
    mixing : {"convex", "additive"}
    match_magnitude : bool

    Returns
    -------
    Tensor, shape (B, n, d)

    Examples
    --------
    >>> import torch
    >>> c, h = torch.tensor([[[0.0, 2.0], [0.0, 0.0]]]), torch.tensor([[1.0, 0.0]])
    >>> mix_residual(h, c, residual=0.5, match_magnitude=False)
    tensor([[[0.5000, 1.0000],
             [0.5000, 0.0000]]])
    >>> mix_residual(h, c, residual=0.5)
    tensor([[[0.5000, 0.5000],
             [0.5000, 0.0000]]])
    """
    h = h.unsqueeze(-2)
    if match_magnitude:
        components = components * _length_ratio(h, components).to(components.dtype)
    if residual == 1 and mixing == "convex":
        return components
    return (h if mixing == "additive" else (1 - residual) * h) + residual * components


def _length_ratio(h: Tensor, components: Tensor) -> Tensor:
    # Half precision cannot hold the squares of features of length 1e4 or 1e-6.
    dtype = torch.promote_types(components.dtype, torch.float32)
    target = torch.linalg.vector_norm(h, dim=-1, keepdim=True, dtype=dtype)
    length = torch.linalg.vector_norm(components, dim=-1, keepdim=True, dtype=dtype)
    return torch.where(length > _NO_DIRECTION, target / length.clamp_min(_NO_DIRECTION), 0.0)


class Decomposition(nn.Module):
    """Map a feature (B, d) to n components (B, n, d).

    ``linear`` is ``ReLU(W h)`` with W of shape (n·d, d), as in arXiv:2605.03820. ``mlp`` is
    ``W₂ ReLU(W₁ h + b₁) + b₂``, without a ReLU on the components, as in the released code.

    Parameters
    ----------
    dim : int
        Feature width d.
    components : int
        Number of components n.
    kind : {"linear", "mlp"}
        ``mlp`` costs d² more parameters and one more (B, d) × (d, d) product.
    residual : float in (0, 1]
        γ of `mix_residual`; 1 is the component alone.
    mixing : {"convex", "additive"}
    match_magnitude : bool
        See `mix_residual`.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type or out of range.

    Examples
    --------
    >>> import torch
    >>> Decomposition(8, components=4)(torch.randn(2, 8)).shape
    torch.Size([2, 4, 8])
    """

    _version = 1  # version of the content of state_dict()

    def __init__(
        self,
        dim: int,
        *,
        components: int = 10,
        kind: Kind = "linear",
        residual: float = 0.3,
        mixing: Mixing = "convex",
        match_magnitude: bool = True,
    ) -> None:
        super().__init__()
        self.dim = check_count("dim", dim)
        self.n = check_count("components", components)
        self.kind = check_choice("decomposition", kind, Kind)
        self.residual = check_interval("residual", residual, "(0, 1]")
        self.mixing = check_choice("mixing", mixing, Mixing)
        self.match_magnitude = match_magnitude
        if kind == "linear":
            self.net = nn.Sequential(nn.Linear(dim, components * dim, bias=False), nn.ReLU())
        else:
            self.net = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, components * dim))
        self.register_load_state_dict_pre_hook(refuse_newer)  # type: ignore[no-untyped-call]

    def forward(self, h: Tensor) -> Tensor:
        """Return the components (B, n, d) of features (B, d)."""
        components: Tensor = self.net(h).unflatten(-1, (self.n, self.dim))
        return mix_residual(
            h, components, residual=self.residual, mixing=self.mixing, match_magnitude=self.match_magnitude
        )

    def extra_repr(self) -> str:
        """Return the options that are not layers."""
        return (
            f"dim={self.dim}, components={self.n}, residual={self.residual}, mixing={self.mixing!r}, "
            f"match_magnitude={self.match_magnitude}"
        )
