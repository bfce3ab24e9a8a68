"""Representation self-calibration as modules, of one modality and of several.

Shape legend: B batch, n components, K selected, d feature width, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from conformal_core.checks import check_choice, check_count, check_nonnegative, check_score
from cpsc_rsc._checks import check_feature, check_modalities
from cpsc_rsc.decomposition import Decomposition, Kind, Mixing
from cpsc_rsc.divergence import Divergence, divergence_loss
from cpsc_rsc.selection import DEFAULT_SCORE, Head, Recomposition, component_reliability, recompose, top_k

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conformal_core import NonconformityScore
    from conformal_core.scores.nonconformity import ReliabilityKind


class RSCOutput(NamedTuple):
    """Result of `RepresentationSelfCalibration`.

    Attributes
    ----------
    recomposed : Tensor, shape (B, d)
        The calibrated feature h̃; gradient flows through the selected components.
    components : Tensor, shape (B, n, d)
    reliability : Tensor, shape (B, n)
        In [0, 1], without gradient.
    selected : integer Tensor, shape (B, K)
        Best first.
    divergence : Tensor, 0-d
        L_div, to be added to the loss.
    """

    recomposed: Tensor
    components: Tensor
    reliability: Tensor
    selected: Tensor
    divergence: Tensor


class RepresentationSelfCalibration(nn.Module):
    """Decompose a feature, select its most reliable components, and recompose them.

    Parameters
    ----------
    dim : int
        Feature width d.
    components, top_k : int
        Number of components n and of selected ones K, 1 ≤ K ≤ n.
    residual, mixing, match_magnitude
        Options of `mix_residual`, where `residual` is γ in (0, 1]; 1, the component alone, is the method as published.
    decomposition : {"linear", "mlp"}
        Layers of `Decomposition`.
    divergence : {"kl", "js", "js-reversed"}
        See `divergence_loss`. ``kl`` is as published and has no lower bound; ``js`` is bounded.
    consistency, diversity : float >= 0
        λ₁ and λ₂ of `divergence_loss`.
    recomposition : {"mean", "weighted"}
        Mean of the selected components, plain or weighted by reliability.
    reliability : {"normalized", "reciprocal", "probability"}
        Kind of reliability; see `component_reliability`.
    score : conformal_core.NonconformityScore
        The score that q̂ is a quantile of. With a regression score, such as ``AbsoluteResidual()``, labels are floating
        targets and heads return predictions.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type or out of range.

    Examples
    --------
    >>> import torch
    >>> rsc = RepresentationSelfCalibration(8, components=5, top_k=2)
    >>> head = torch.nn.Linear(8, 3)
    >>> out = rsc(torch.randn(4, 8), torch.tensor([0, 1, 2, 0]), head=head, qhat=torch.tensor(0.9))
    >>> out.recomposed.shape, out.components.shape, out.reliability.shape, out.selected.shape
    (torch.Size([4, 8]), torch.Size([4, 5, 8]), torch.Size([4, 5]), torch.Size([4, 2]))

    Regression:

    >>> from conformal_core import AbsoluteResidual
    >>> rsc = RepresentationSelfCalibration(8, components=5, top_k=2, score=AbsoluteResidual())
    >>> rsc(torch.randn(4, 8), torch.randn(4), head=torch.nn.Linear(8, 1), qhat=torch.tensor(0.9)).recomposed.shape
    torch.Size([4, 8])
    """

    def __init__(
        self,
        dim: int,
        *,
        components: int = 10,
        top_k: int = 3,
        residual: float = 0.3,
        mixing: Mixing = "convex",
        match_magnitude: bool = True,
        decomposition: Kind = "linear",
        divergence: Divergence = "js",
        consistency: float = 0.8,
        diversity: float = 0.2,
        recomposition: Recomposition = "mean",
        reliability: ReliabilityKind = "normalized",
        score: NonconformityScore = DEFAULT_SCORE,
    ) -> None:
        super().__init__()
        self.decomposition = Decomposition(
            dim,
            components=components,
            kind=decomposition,
            residual=residual,
            mixing=mixing,
            match_magnitude=match_magnitude,
        )
        self.top_k = check_count("top_k", top_k)
        if top_k > components:
            raise ValueError(f"top_k must be at most the number of components ({components}), got {top_k}")
        self.divergence = check_choice("divergence", divergence, Divergence)
        self.consistency = check_nonnegative("consistency", consistency)
        self.diversity = check_nonnegative("diversity", diversity)
        self.recomposition = check_choice("recomposition", recomposition, Recomposition)
        check_score(score, "score_and_reliability")
        score.check_kind(reliability, "reliability")
        self.reliability = reliability
        self.score = score

    def forward(
        self,
        h: Tensor,
        labels: Tensor,
        *,
        head: Head,
        qhat: Tensor,
        present: Tensor | None = None,
        check: bool | None = None,
    ) -> RSCOutput:
        """Calibrate features with their labels.

        Parameters
        ----------
        h : Tensor, shape (B, d)
        labels, head, qhat, check
            As for `component_reliability`.
        present : bool Tensor, shape (B,), optional
            True for samples that have the modality. If None, all do. For the others, the recomposed feature and the
            reliability are 0, and they are left out of the divergence; their features must be finite.

        Returns
        -------
        RSCOutput

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        components = self.components(h)
        recomposed, reliability, selected = self.select(components, labels, head=head, qhat=qhat, check=check)
        divergence = divergence_loss(
            h,
            components,
            consistency=self.consistency,
            diversity=self.diversity,
            kind=self.divergence,
            present=present,
        )
        if present is not None:
            recomposed, reliability = (torch.where(present[:, None], x, 0.0) for x in (recomposed, reliability))
        return RSCOutput(recomposed, components, reliability, selected, divergence)

    def components(self, h: Tensor) -> Tensor:
        """Return the components (B, n, d) of features (B, d)."""
        check_feature("h", h, self.decomposition.dim)
        components: Tensor = self.decomposition(h)
        return components

    def select(
        self, components: Tensor, labels: Tensor, *, head: Head, qhat: Tensor, check: bool | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the recomposed feature (B, d), the reliability (B, n) and the selected indices (B, K)."""
        reliability, scores = component_reliability(
            components, labels, head=head, qhat=qhat, score=self.score, kind=self.reliability, check=check
        )
        selected = top_k(reliability, scores, self.top_k)
        weights = reliability if self.recomposition == "weighted" else None
        return recompose(components, selected, weights, check=False), reliability, selected

    def extra_repr(self) -> str:
        """Return the options that are not layers."""
        return (
            f"top_k={self.top_k}, divergence={self.divergence!r}, consistency={self.consistency}, "
            f"diversity={self.diversity}, recomposition={self.recomposition!r}, reliability={self.reliability!r}"
        )


class MultimodalSelfCalibration(nn.ModuleDict):
    """One `RepresentationSelfCalibration` for each modality, with the same options and any widths.

    Parameters
    ----------
    dims : Mapping[str, int]
        Feature width of each modality.
    **options
        Passed to each `RepresentationSelfCalibration`; the defaults are those of the recipes of cpsc-train.

    Raises
    ------
    TypeError, ValueError
        As for `RepresentationSelfCalibration`, and if there is no modality.

    Examples
    --------
    >>> import torch
    >>> dims = {"audio": 8, "text": 12}
    >>> rsc = MultimodalSelfCalibration(dims, components=5, top_k=2)
    >>> heads = {m: torch.nn.Linear(d, 3) for m, d in dims.items()}
    >>> h = {m: torch.randn(4, d) for m, d in dims.items()}
    >>> out = rsc(h, torch.tensor([0, 1, 2, 0]), heads=heads, qhat={m: torch.tensor(0.9) for m in dims})
    >>> out["text"].recomposed.shape
    torch.Size([4, 12])
    """

    def __init__(self, dims: Mapping[str, int], **options: Any) -> None:
        if not dims:
            raise ValueError("dims must hold at least one modality, got none")
        super().__init__({name: RepresentationSelfCalibration(dim, **options) for name, dim in dims.items()})

    def __getitem__(self, name: str) -> RepresentationSelfCalibration:
        """Return the module of one modality."""
        return cast("RepresentationSelfCalibration", super().__getitem__(name))

    def forward(
        self,
        features: Mapping[str, Tensor],
        labels: Tensor,
        *,
        heads: Mapping[str, Head] | nn.ModuleDict,
        qhat: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        check: bool | None = None,
    ) -> dict[str, RSCOutput]:
        """Calibrate the features of every modality.

        Parameters
        ----------
        features : Mapping[str, Tensor], each of shape (B, d_m)
        labels : integer Tensor, shape (B,)
            Labels, or floating targets with a regression score.
        heads : Mapping[str, callable] or nn.ModuleDict
            May hold more than the modalities, such as a fused head; so may `qhat`.
        qhat : Mapping[str, Tensor], each 0-d
        present : Mapping[str, Tensor], each of shape (B,), optional
            True for samples that have a modality, as for `RepresentationSelfCalibration`; a modality that is not listed
            is present in all samples.
        check : bool, optional
            See `component_reliability`.

        Returns
        -------
        dict[str, RSCOutput]

        Raises
        ------
        TypeError, ValueError
            If a mapping lacks a modality, `features` has another, or an entry does not fit.
        """
        check_modalities("features", features, self)
        check_modalities("heads", heads, self, allow_more=True)
        check_modalities("qhat", qhat, self, allow_more=True)
        masks = present or {}
        return {
            m: self[m](features[m], labels, head=heads[m], qhat=qhat[m], present=masks.get(m), check=check)
            for m in self
        }
