"""Fit of a `ConformalTrust` to batches: distances, thresholds and curves, with corruptions by a function.

Shapes: B samples of a batch, N held-out samples, d_m feature width of modality m, d_k activations at depth k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from cpsc_rsc._checks import check_modalities
from cpsc_rsc._curve_fit import Classify
from cpsc_rsc._evaluating import evaluating
from cpsc_rsc.curve import HeldOutCopy
from cpsc_rsc.trust import ConformalTrust

CORRUPTION_LEVELS = (1, 3, 5)
"""Levels at which each modality alone is corrupted; all modalities together are at the last two."""

Corrupt = Callable[[Any, str, int], Any]


class TrustInputs(NamedTuple):
    """Features, activations and labels of a batch, to which trust is fitted.

    Attributes
    ----------
    features : Mapping[str, Tensor], each of shape (B, d_m)
        Features that the trust multiplies, of every modality.
    depths : Mapping[str, Sequence[Tensor]], each of shape (B, d_k)
        Activations of every modality, as from `Taps`.
    labels : integer Tensor, shape (B,)
    present : Mapping[str, Tensor], each of shape (B,), booleans
        Samples that have a modality. Modalities without an entry are in all samples. Features and activations of the
        other samples must be finite and have no effect.
    """

    features: Mapping[str, Tensor]
    depths: Mapping[str, Sequence[Tensor]]
    labels: Tensor
    present: Mapping[str, Tensor] = {}


class TrustedModel(Protocol):
    """Interface of a model whose trust a callback fits after training."""

    trust: ConformalTrust

    def trust_inputs(self, batch: Any, /) -> TrustInputs:
        """Return features, activations and labels of a batch on the device of the model."""

    def fused_logits(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor], /) -> Tensor:
        """Return the fused logits (B, C) of features (B, d_m), with gradients to the features."""


def fit_trust(
    model: nn.Module, training: Iterable[Any], held_out: Iterable[Any], corrupt: Corrupt | None = None
) -> None:
    """Fit the trust of a `TrustedModel` anew, in evaluation mode; its training mode is restored.

    Distances are those to the training samples. Thresholds and curves are fitted to the held-out samples: as they are,
    with each modality corrupted alone at every level of `CORRUPTION_LEVELS`, and with all of them at the last two.

    Parameters
    ----------
    model : nn.Module
        With the attributes of `TrustedModel`. Pass the model itself, not its DDP wrapper.
    training : Iterable
        Batches of training samples without augmentation, on the device of the model; what ``model.trust_inputs``
        takes. A few thousand samples are enough.
    held_out : Iterable
        Batches of samples that the model was not trained on, and that set no threshold of prediction sets. Iterated
        twice, so not a generator.
    corrupt : callable, optional
        ``corrupt(batch, modality, level)`` returns a copy of a batch with noise in one modality. Level 5 is the
        strongest noise to expect, and 1 is mild: for standardised inputs, Gaussian noise of this standard deviation.
        If None, all weights stay 1, and distances alone are fitted.

    Raises
    ------
    TypeError, ValueError
        If the attribute ``trust`` of the model is not a `ConformalTrust`, there are no batches, or an entry has the
        wrong type or shape or is not finite; the trust does not change then.

    Notes
    -----
    Costs a forward pass of the training samples, and 3 M + 4 of the held-out ones for M modalities, beside the fit of
    the curve. In training with several processes, each passes all batches; see `HeadQuantiles`.
    """
    if not isinstance(trust := getattr(model, "trust", None), ConformalTrust):
        raise TypeError(f"the attribute trust of the model must be a ConformalTrust, got {type(trust).__name__}")
    inputs = cast("TrustedModel", model).trust_inputs
    fitted = ConformalTrust(trust.widths, alpha=trust.alpha).to(next(trust.buffers()).device)
    with evaluating(model):
        for batch in training:
            if depths := _depths_present(inputs(batch)):
                fitted.update(depths)
        fitted.calibrate(_depths_present(_joined([inputs(batch) for batch in held_out], trust)))
        if corrupt is not None:
            copies = _copies(inputs, fitted, held_out, corrupt)
            with torch.enable_grad():
                fitted.fit_curve(copies, _in_full_precision(model))
    trust.load_state_dict(fitted.state_dict())


def _in_full_precision(model: nn.Module) -> Classify:
    """Return the fused logits as a function without autocast, in which the optimizer of the curve would stop early."""
    fused_logits, parameter = cast("TrustedModel", model).fused_logits, next(model.parameters())

    def classify(features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        with torch.autocast(parameter.device.type, enabled=False):
            return fused_logits({m: h.to(parameter.dtype) for m, h in features.items()}, present)

    return classify


def _copies(
    inputs: Callable[[Any], TrustInputs], trust: ConformalTrust, held_out: Iterable[Any], corrupt: Corrupt
) -> list[HeldOutCopy]:
    """Return the held-out samples as they are and with each corruption.

    All copies of a batch are made before the next is read, so their rows agree even if the order is random.
    """
    conditions = _conditions(list(trust.widths))
    parts: list[list[TrustInputs]] = [[] for _ in conditions]
    for batch in held_out:
        for part, levels in zip(parts, conditions, strict=True):
            corrupted = batch
            for modality, level in levels.items():
                corrupted = corrupt(corrupted, modality, level)
            part.append(inputs(corrupted))
    return [
        HeldOutCopy(
            features=rows.features,
            distances=trust.distances(rows.depths),
            labels=rows.labels,
            present=rows.present,
            clean=not levels,
        )
        for rows, levels in zip((_joined(part, trust) for part in parts), conditions, strict=True)
    ]


def _conditions(modalities: Sequence[str]) -> list[dict[str, int]]:
    """Return the level of noise in each modality that is corrupted, by copy; the first copy is clean."""
    alone = [{m: level} for m in modalities for level in CORRUPTION_LEVELS]
    together = [dict.fromkeys(modalities, level) for level in CORRUPTION_LEVELS[-2:]] if len(modalities) > 1 else []
    return [{}, *alone, *together]


def _joined(parts: Sequence[TrustInputs], trust: ConformalTrust) -> TrustInputs:
    """Return the rows of all batches, one after the other."""
    if not parts:
        raise ValueError("held_out must hold at least one batch each time it is iterated, got none")
    for part in parts:
        check_modalities("features", part.features, trust.widths)
        check_modalities("depths", part.depths, trust.widths)
    masks = {m for part in parts for m in part.present}
    return TrustInputs(
        features={m: torch.cat([part.features[m] for part in parts]) for m in trust.widths},
        depths={m: tuple(map(torch.cat, zip(*(part.depths[m] for part in parts), strict=True))) for m in trust.widths},
        labels=torch.cat([part.labels for part in parts]),
        present={m: torch.cat([part.present.get(m, _everywhere(part)) for part in parts]) for m in masks},
    )


def _everywhere(part: TrustInputs) -> Tensor:
    return torch.ones(len(part.labels), dtype=torch.bool, device=part.labels.device)


def _depths_present(rows: TrustInputs) -> dict[str, tuple[Tensor, ...]]:
    """Return the activations of the rows that have each modality, without modalities that no row has."""
    kept = {}
    for m, depths in rows.depths.items():
        mask = rows.present.get(m)
        kept[m] = tuple(depths) if mask is None else tuple(h[mask] for h in depths)
    return {m: depths for m, depths in kept.items() if len(depths[0])}
