"""MMPareto: Pareto combination of the gradients of the fused and the unimodal loss in every encoder.

Source: Wei and Hu, *MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance*, ICML 2024, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cpsc_train.methods.base import AllReduce, Heads, Method, Quantiles, StepLosses, flat_gradient, total, trained
from cpsc_train.methods.joint import joint_losses
from cpsc_train.methods.options import POSITIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present


class MMPareto(Method):
    """Weights the two gradients of an encoder; heads and fusion get their sum."""

    config: MMParetoConfig

    def __init__(self, config: MMParetoConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self._gradients: dict[str, Tensor] = {}

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused`` and ``ce_<modality>``."""
        return joint_losses(model, features, labels, present, unimodal=True)

    def backward(
        self, model: MultimodalClassifier, terms: dict[str, Tensor], backward: Callable[[Tensor], None]
    ) -> None:
        """Compute the gradients of both losses in each encoder, then that of the sum everywhere."""
        for modality, encoder in model.encoders.items():
            both = [flat_gradient(terms[f"ce_{head}"], trained(encoder)) for head in (FUSED, modality)]
            before = self._gradients.get(modality)
            self._gradients[modality] = torch.stack(both) if before is None else before + torch.stack(both)
        backward(total(terms))

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: AllReduce) -> None:
        """Replace the sum by the combination, scaled to the optimizer's gradients."""
        for modality, encoder in model.encoders.items():
            fused, unimodal = all_reduce(self._gradients.pop(modality))
            parameters = trained(encoder)
            summed = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
            # The two are sums over processes and batches; the optimizer's gradient is a mean of them.
            unit = summed.norm() / (fused + unimodal).norm().clamp(min=torch.finfo(summed.dtype).tiny)
            combined = self.config.strength * combine(fused, unimodal) * unit
            for parameter, part in zip(parameters, combined.split([p.numel() for p in parameters]), strict=True):
                parameter.grad = part.view_as(parameter).to(parameter.dtype)


@dataclass(frozen=True, kw_only=True)
class MMParetoConfig(MethodConfig, name="mmpareto"):
    """Joint and unimodal cross-entropy, with encoder gradients combined into a common descent direction."""

    source = "Wei and Hu, MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance, ICML 2024"
    method = MMPareto
    rules = {"strength": POSITIVE}
    search = {"strength": Range(0.5, 3.0)}

    strength: float = 1.5
    """Final factor of the gradient of an encoder."""


def combine(fused: Tensor, unimodal: Tensor) -> Tensor:
    """Return 2k₀g_fused + 2k₁g_unimodal, scaled to the length of their sum if it is shorter.

    If they agree (cosine above 0) both weights are ½; else they give the shortest convex combination. Both
    are gradients (P,) of an encoder.

    Examples
    --------
    >>> combined = combine(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 2.0]))  # weights ¾ and ¼, then length 2
    >>> torch.allclose(combined, torch.tensor([2.0, 2.0]).sqrt())
    True
    """
    difference = unimodal - fused
    length = difference.square().sum()
    k = torch.where(length > 0, (difference @ unimodal) / length.clamp(min=torch.finfo(length.dtype).tiny), 0.5)
    k = torch.where(fused @ unimodal > 0, 0.5, k.clamp(0, 1))
    combined = 2 * k * fused + 2 * (1 - k) * unimodal
    short = combined.norm().clamp(min=torch.finfo(length.dtype).tiny)
    longer: Tensor = combined * ((fused + unimodal).norm() / short).clamp(min=1)
    return longer
