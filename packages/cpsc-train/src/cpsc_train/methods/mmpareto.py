"""MMPareto: the gradients of the fused and of the unimodal loss are brought together in every encoder.

Source: Wei and Hu, *MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance*, ICML 2024, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from cpsc_train.methods.base import Heads, Method, StepLosses, flat_gradient, total, trained
from cpsc_train.methods.joint import Joint
from cpsc_train.methods.options import POSITIVE, MethodConfig, Range
from cpsc_train.models import FUSED, MultimodalClassifier


@dataclass(frozen=True, kw_only=True)
class MMParetoConfig(MethodConfig, name="mmpareto"):
    """Joint and unimodal cross-entropy, whose gradients in an encoder are weighted so that neither is harmed."""

    source = "Wei and Hu, MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance, ICML 2024"
    rules = MappingProxyType({"strength": POSITIVE})
    search = MappingProxyType({"strength": Range(0.5, 3.0)})

    strength: float = 1.5
    """What the gradient of an encoder is multiplied by at the end."""

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        return MMPareto(self.strength)


class MMPareto(Method):
    """Weighs the two gradients that an encoder is given; heads and fusion are given their sum.

    Parameters
    ----------
    strength
        Factor at the end.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength
        self._plain = Joint(unimodal=True)
        self._gradients: dict[str, Tensor] = {}

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return ``ce_fused`` and ``ce_<modality>``."""
        return self._plain.losses(model, features, labels, qhat)

    def backward(
        self, model: MultimodalClassifier, terms: dict[str, Tensor], backward: Callable[[Tensor], None]
    ) -> None:
        """Take the gradients of both losses in each encoder, then that of the sum everywhere."""
        for modality, encoder in model.encoders.items():
            both = [flat_gradient(terms[f"ce_{head}"], trained(encoder)) for head in (FUSED, modality)]
            before = self._gradients.get(modality)
            self._gradients[modality] = torch.stack(both) if before is None else before + torch.stack(both)
        backward(total(terms))

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Put the combination in place of the sum; only its direction and length beside the sum are used."""
        for modality, encoder in model.encoders.items():
            fused, unimodal = all_reduce(self._gradients.pop(modality))
            parameters = trained(encoder)
            summed = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
            # The two are sums over processes and batches, and what the optimizer is given a mean of them.
            unit = summed.norm() / (fused + unimodal).norm().clamp(min=torch.finfo(summed.dtype).tiny)
            found = self.strength * combine(fused, unimodal) * unit
            for parameter, part in zip(parameters, found.split([p.numel() for p in parameters]), strict=True):
                parameter.grad = part.view_as(parameter).to(parameter.dtype)


def combine(fused: Tensor, unimodal: Tensor) -> Tensor:
    """Return 2k₀g_fused + 2k₁g_unimodal, as long as their sum where it would be shorter.

    Where they agree (cosine above 0) both weights are ½; else they are those of the shortest convex combination.

    Parameters
    ----------
    fused, unimodal
        (P,) gradients of an encoder.

    Examples
    --------
    >>> found = combine(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 2.0]))  # weights ¾ and ¼, then length 2
    >>> torch.allclose(found, torch.tensor([2.0, 2.0]).sqrt())
    True
    """
    difference = unimodal - fused
    length = difference.square().sum()
    k = torch.where(length > 0, (difference @ unimodal) / length.clamp(min=torch.finfo(length.dtype).tiny), 0.5)
    k = torch.where(fused @ unimodal > 0, 0.5, k.clamp(0, 1))
    found = 2 * k * fused + 2 * (1 - k) * unimodal
    short = found.norm().clamp(min=torch.finfo(length.dtype).tiny)
    longer: Tensor = found * ((fused + unimodal).norm() / short).clamp(min=1)
    return longer
