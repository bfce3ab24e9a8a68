"""Representations for inference, where there is no label.

Shape legend: B batch, n components, d feature width, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from conformal_core.checks import check_choice
from cpsc_rsc._checks import check_feature, check_modalities, check_present

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from cpsc_rsc.module import MultimodalSelfCalibration
    from cpsc_rsc.selection import Head

Mode: TypeAlias = Literal["features", "mean", "collaborative"]


def represent(
    rsc: MultimodalSelfCalibration,
    features: Mapping[str, Tensor],
    *,
    mode: Mode,
    predict: Callable[[dict[str, Tensor]], Tensor] | None = None,
    heads: Mapping[str, Head] | nn.ModuleDict | None = None,
    qhat: Mapping[str, Tensor] | None = None,
    check: bool | None = None,
) -> dict[str, Tensor]:
    """Return the representation of each modality to use at inference.

    It must be one that the heads were trained on. ``features`` is h itself: right if the heads also learn on h, or with
    residual mixing. ``mean`` is the mean of all components. ``collaborative`` selects components as in training, with
    the decision of `predict` on h in place of the label. The decision then confirms itself, so unimodal accuracy
    measured on this representation means nothing.

    Parameters
    ----------
    rsc : MultimodalSelfCalibration
    features : Mapping[str, Tensor], each of shape (B, d_m)
        Of at least one modality; others may be missing.
    mode : {"features", "mean", "collaborative"}
    predict : callable, dict of (B, d_m) -> (B, C)
        The fused classifier; with a regression score, the fused predictions (B,), (B, 1) or (B, columns). Needed, like
        `heads` and `qhat`, for ``collaborative`` only.
    heads : Mapping[str, callable] or nn.ModuleDict
    qhat : Mapping[str, Tensor], each 0-d
    check : bool, optional
        See `component_reliability`.

    Returns
    -------
    dict[str, Tensor], each of shape (B, d_m)
        Of the modalities of `features`.

    Raises
    ------
    TypeError, ValueError
        If an argument is missing or does not fit.

    Examples
    --------
    >>> import torch
    >>> from cpsc_rsc import MultimodalSelfCalibration
    >>> rsc = MultimodalSelfCalibration({"audio": 8, "text": 12})
    >>> h = {"audio": torch.randn(4, 8), "text": torch.randn(4, 12)}
    >>> represent(rsc, h, mode="mean")["text"].shape
    torch.Size([4, 12])
    """
    check_choice("mode", mode, Mode)
    check_present("features", features, rsc)
    for m, h in features.items():
        check_feature(f"features[{m!r}]", h, rsc[m].decomposition.dim)
    if mode == "features":
        return dict(features)
    components = {m: rsc[m].components(features[m]) for m in rsc if m in features}
    if mode == "mean":
        return {m: c.mean(dim=1) for m, c in components.items()}
    if predict is None or heads is None or qhat is None:
        missing = [name for name, v in (("predict", predict), ("heads", heads), ("qhat", qhat)) if v is None]
        raise TypeError(f"mode 'collaborative' needs predict, heads and qhat, got no {', '.join(missing)}")
    check_modalities("heads", heads, features, allow_more=True)
    check_modalities("qhat", qhat, features, allow_more=True)
    score, rows = rsc[next(iter(rsc))].score, next(iter(features.values())).shape[0]
    labels = score.decide(score.check_output("output of predict", predict(dict(features)), rows))
    return {m: rsc[m].select(c, labels, head=heads[m], qhat=qhat[m], check=check)[0] for m, c in components.items()}
