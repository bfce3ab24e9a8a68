"""IPRM: two features mixed on the sphere by the divergence of each modality from the mixed decision.

Source: *Towards Equilibrium: An Instantaneous Probe-and-Rebalance Multimodal Learning Approach*, IJCAI 2025, from its
equations; two modalities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, normalize

from cpsc_train.errors import UserError
from cpsc_train.methods.base import AllReduce, Heads, Method, Quantiles, StepLosses, head_cross_entropy
from cpsc_train.methods.options import DECAY, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, only_present, stacked


class IPRM(Method):
    """Cross-entropies of the two heads and of one on the mixed feature; the decision is the sum of the three.

    A probe without gradient mixes by the moving average of λ and measures λ̂ = KL₂ / (KL₁ + KL₂), the weight of the
    first modality, from the divergences of the mixed decision from each modality. The losses are those of the features
    mixed by λ̂, that of a process's part of a batch. The moving average over steps serves the next probe, and inference.
    """

    config: IPRMConfig
    static_graph = True
    weight: Tensor

    def __init__(self, config: IPRMConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        if len(modalities) != 2:
            raise UserError(f"iprm mixes two modalities, got {len(modalities)}: {', '.join(modalities)}")
        super().__init__(config, model, modalities)
        self.head = nn.Linear(model.dim, model.classes)
        self.register_buffer("weight", torch.tensor(0.5))

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_<modality>`` and ``ce_mixed``."""
        unimodal = model.unimodal(features, present)
        both = stacked(self.modalities, present, labels)
        both = None if both is None else both.all(0)
        with torch.no_grad():
            target = only_present(self._mixed(features, self.weight, present), both).float().log_softmax(-1)
            apart = torch.stack(
                [
                    kl_div(
                        target,
                        only_present(unimodal[m], both).float().log_softmax(-1),
                        log_target=True,
                        reduction="sum",
                    )
                    for m in self.modalities
                ]
            )
            self.sums.add(apart)
        mixed = self._mixed(features, second_fraction(apart), present)
        weight = self.config.unimodal
        terms = {f"ce_{m}": weight * head_cross_entropy(z, labels, present.get(m)) for m, z in unimodal.items()}
        terms["ce_mixed"] = cross_entropy(mixed, labels)
        return StepLosses(terms, unimodal | {FUSED: _sum(unimodal, mixed)})

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: AllReduce) -> None:
        """Update the weight; gradients are unchanged."""
        (apart,) = self.sums.pop(all_reduce)
        self.weight.mul_(self.config.decay).add_((1 - self.config.decay) * second_fraction(apart))

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return logits; if a modality is missing, those of the other."""
        if len(features) < 2:
            return model.classify(features, present)
        unimodal = model.unimodal(features, present)
        return unimodal | {FUSED: _sum(unimodal, self._mixed(features, self.weight, present))}

    def _mixed(self, features: Heads, weight: Tensor, present: Present) -> Tensor:
        """Return the logits (B, C) of the mixed features; where a sample lacks a modality, of the other's direction."""
        first, second = self.modalities
        mix = slerp(features[first], features[second], weight)
        mask = stacked(self.modalities, present, mix)
        if mask is not None:  # the features of a missing modality are zeros, and so is its direction
            mix = torch.where(mask.all(0)[:, None], mix, sum(normalize(features[m], dim=-1) for m in self.modalities))
        mixed: Tensor = self.head(mix)
        return mixed


@dataclass(frozen=True, kw_only=True)
class IPRMConfig(MethodConfig, name="iprm"):
    """Spherical interpolation of two features, and three heads."""

    source = "IPRM: Towards Equilibrium: An Instantaneous Probe-and-Rebalance Multimodal Learning Approach, IJCAI 2025"
    method = IPRM
    rules = {"decay": DECAY, "unimodal": NOT_NEGATIVE}
    search = {"decay": Range(0.5, 0.99), "unimodal": Range(0.25, 4.0, log=True)}

    decay: float = 0.8
    """Decay of the moving average of the weight."""
    unimodal: float = 1.0
    """Weight of the cross-entropy of each modality; the source has 1."""


def slerp(one: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """Return the spherical interpolation of two features (B, d), `weight` of the way from the second to the first.

    sin(λθ)/sin θ · a + sin((1−λ)θ)/sin θ · b, or the weighted mean if they are (nearly) the same or opposite.

    Examples
    --------
    >>> halfway = slerp(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor(0.5))
    >>> torch.allclose(halfway, torch.tensor([[0.5, 0.5]]).sqrt())
    True
    """
    a, b = normalize(one, dim=-1), normalize(other, dim=-1)
    cosine = (a * b).sum(-1, keepdim=True)
    plain = cosine.abs() > 1 - 1e-6
    angle = torch.where(plain, 0.0, cosine).acos()
    curved = ((weight * angle).sin() * a + ((1 - weight) * angle).sin() * b) / angle.sin()
    return torch.where(plain, weight * a + (1 - weight) * b, curved)


def second_fraction(apart: Tensor) -> Tensor:
    """Return d₂ / (d₁ + d₂), 0-d, of divergences (2,); ½ if both are 0.

    Examples
    --------
    >>> second_fraction(torch.tensor([1.0, 3.0])), second_fraction(torch.zeros(2))
    (tensor(0.7500), tensor(0.5000))
    """
    both = apart.sum()
    return torch.where(both > 0, apart[1] / both.clamp(min=torch.finfo(both.dtype).tiny), 0.5)


def _sum(unimodal: Heads, mixed: Tensor) -> Tensor:
    return torch.stack([*unimodal.values(), mixed]).sum(0)
