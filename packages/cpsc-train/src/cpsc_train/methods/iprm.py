"""IPRM: two features are mixed on the sphere, by how far each modality is from the mixed decision.

Source: the method called IPRM, IJCAI 2025, after its equations; two modalities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, normalize

from cpsc_train.errors import UserError
from cpsc_train.methods.base import Heads, Method, StepLosses
from cpsc_train.methods.options import DECAY, MethodConfig, Range
from cpsc_train.models import FUSED, MultimodalClassifier


@dataclass(frozen=True, kw_only=True)
class IPRMConfig(MethodConfig, name="iprm"):
    """Spherical interpolation of two features, and three heads."""

    source = "IPRM, IJCAI 2025"
    rules = MappingProxyType({"decay": DECAY})
    search = MappingProxyType({"decay": Range(0.5, 0.99)})

    decay: float = 0.8
    """Decay of the moving average of the weight."""

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        if len(modalities) != 2:
            raise UserError(f"iprm mixes two modalities, got {len(modalities)}: {', '.join(modalities)}")
        return IPRM(self.decay, modalities, model.dim, model.classes)


class IPRM(Method):
    """Cross-entropies of the two heads and of one on the mixed feature; the decision is the sum of the three.

    The weight of the first modality is λ = KL₂ / (KL₁ + KL₂), the divergences of the mixed decision from each, averaged
    over a step and, as a moving average, over steps.

    Parameters
    ----------
    decay
        Of the moving average.
    modalities
        The two.
    dim, classes
        d and C.
    """

    weight: Tensor

    def __init__(self, decay: float, modalities: tuple[str, ...], dim: int, classes: int) -> None:
        super().__init__()
        self._decay, self._modalities = decay, modalities
        self.head = nn.Linear(dim, classes)
        self.register_buffer("weight", torch.tensor(0.5))
        self._probed: list[Tensor] = []

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return ``ce_<modality>`` and ``ce_mixed``."""
        unimodal, mixed = self._heads(model, features)
        with torch.no_grad():
            target = mixed.float().log_softmax(-1)
            apart = [
                kl_div(target, unimodal[m].float().log_softmax(-1), log_target=True, reduction="sum")
                for m in self._modalities
            ]
            self._probed.append(torch.stack(apart))
        terms = {f"ce_{m}": cross_entropy(z, labels) for m, z in unimodal.items()}
        terms["ce_mixed"] = cross_entropy(mixed, labels)
        return StepLosses(terms, unimodal | {FUSED: _sum(unimodal, mixed)})

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Bring the weight up to date; gradients are left as they are."""
        first, second = all_reduce(torch.stack(self._probed).sum(0))
        self._probed.clear()
        both = first + second
        new = torch.where(both > 0, second / both.clamp(min=torch.finfo(both.dtype).tiny), 0.5)
        self.weight.mul_(self._decay).add_((1 - self._decay) * new)

    def predict(self, model: MultimodalClassifier, features: Heads, qhat: Heads | None) -> Heads:
        """Return logits; a modality that is missing leaves the decision to the other."""
        if len(features) < 2:
            return model.classify(features)
        unimodal, mixed = self._heads(model, features)
        return unimodal | {FUSED: _sum(unimodal, mixed)}

    def _heads(self, model: MultimodalClassifier, features: Heads) -> tuple[Heads, Tensor]:
        unimodal = {m: model.heads[m](h) for m, h in features.items()}
        first, second = self._modalities
        mixed: Tensor = self.head(slerp(features[first], features[second], self.weight))
        return unimodal, mixed


def slerp(one: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """Return the point between the directions of two features (B, d), `weight` of the way from the second to the first.

    sin(λθ)/sin θ · a + sin((1−λ)θ)/sin θ · b, and the mean of them where they are (nearly) the same or opposite.

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


def _sum(unimodal: Heads, mixed: Tensor) -> Tensor:
    return torch.stack([*unimodal.values(), mixed]).sum(0)
