"""Checks of mappings from modality to tensor, of quantiles, and of the loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from conformal_core import NonconformityScore
from conformal_core.checks import check_finite, check_floating, check_score, check_shape, is_checked


def check_outputs(outputs: Mapping[str, Tensor], score: NonconformityScore) -> dict[str, Tensor]:
    """Return the output of each modality's head, all of one shape with at least one row; refuse anything else."""
    check_score(score, "score_and_reliability")
    if not isinstance(outputs, Mapping):
        raise TypeError(f"unimodal_logits must map each modality to a tensor, got {type(outputs).__name__}")
    if not outputs:
        raise ValueError("unimodal_logits must hold at least one modality, got none")
    checked = {m: score.check_output(f"unimodal_logits[{m!r}]", output) for m, output in outputs.items()}
    first, *others = checked
    shape = tuple(checked[first].shape)
    if shape[0] == 0:
        raise ValueError(f"unimodal_logits[{first!r}] must hold at least one sample, got shape {shape}")
    for m in others:
        if tuple(checked[m].shape) != shape:
            raise ValueError(
                f"unimodal_logits[{m!r}] must have the shape {shape} of unimodal_logits[{first!r}], "
                f"got {tuple(checked[m].shape)}"
            )
    return checked


def check_fused(fused: Tensor, like: Tensor, score: NonconformityScore, *, check: bool | None) -> Tensor:
    """Return the fused output, of the shape of an unimodal one; where values are checked, refuse those not finite."""
    fused = score.check_output("fused_logits", fused)
    check_shape("fused_logits", fused, tuple(like.shape))
    if is_checked(fused, check):
        check_finite("fused_logits", fused, check_floating("fused_logits", fused))
    return fused


def check_modalities(name: str, mapping: Mapping[str, Tensor], modalities: Iterable[str]) -> None:
    """Refuse a mapping that lacks a modality."""
    for m in modalities:
        if m not in mapping:
            raise ValueError(f"{name} must hold every modality, got {sorted(mapping)} without {m!r}")


def check_qhat(qhat: Mapping[str, Tensor], modalities: Iterable[str]) -> None:
    """Refuse quantiles that are missing, or not one 0-d tensor for each modality."""
    rule = "a 0-d tensor (calibrate before the first weighted step)"
    if not isinstance(qhat, Mapping):
        raise TypeError(f"qhat must map each modality to {rule}, got {qhat!r}")
    check_modalities("qhat", qhat, modalities)
    for m in modalities:
        if not isinstance(qhat[m], Tensor):
            raise TypeError(f"qhat[{m!r}] must be {rule}, got {qhat[m]!r}")
        if qhat[m].ndim != 0:
            raise ValueError(f"qhat[{m!r}] must be 0-d, got shape {tuple(qhat[m].shape)}")


def check_loss(loss: object, score: NonconformityScore) -> None:
    """Refuse a missing loss with a score that has no default one."""
    if loss is None and score.default_loss is None:
        raise ValueError(f"loss must be given with a score of regression such as {score}, got None")
