"""OGM-GE: a slower encoder for the modality that is ahead, and noise on gradients.

Source: Peng et al., *Balanced Multimodal Learning via On-the-fly Gradient Modulation*, CVPR 2022, equations 8 to 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cpsc_train.errors import UserError
from cpsc_train.methods.base import AllReduce, EpochMethod, Heads, Quantiles, StepLosses, alone, true_probability
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, numbers_present, only_present, per_sample


class OGMGE(EpochMethod):
    """Cross-entropy of the fused decision, whose gradient in encoder m is multiplied by k_m.

    s_m sums over a step the probability that modality m alone gives the true class, and r_m = s_m over the mean of the
    others' s; the source has two modalities. k_m = 1 − tanh(α r_m) if r_m > 1, else 1. It applies to the weights of
    convolutions, as in the source, or to all matrices of an encoder without convolutions.
    """

    config: OGMGEConfig
    static_graph = True

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused``."""
        logits = model.classify(features, present)
        with torch.no_grad():
            true = [
                only_present(true_probability(z, labels), present.get(m)).sum()
                for m, z in alone(model, features, present).items()
            ]
        self.sums.add(torch.stack(true), numbers_present(features, present, labels))
        return StepLosses({"ce_fused": cross_entropy(logits[FUSED], labels)}, logits)

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: AllReduce) -> None:
        """Scale gradients, and add noise."""
        scores = per_sample(*self.sums.pop(all_reduce))
        processes = all_reduce(torch.ones_like(scores[0]))
        last = 2**62 if self.config.end is None else self.config.end
        active = (self.epoch >= self.config.start) & (self.epoch <= last)
        for modality, k in zip(self.modalities, coefficients(scores, self.config.alpha), strict=True):
            for parameter in modulated(model.encoders[modality]):
                if parameter.grad is None:
                    continue
                changed = k * parameter.grad
                if self.config.noise:
                    # Every process must draw the same: the sum of W normal draws, divided by √W, is one.
                    noise = all_reduce(torch.randn_like(changed)) / processes.sqrt()
                    changed += noise * (parameter.grad.std() + 1e-8)
                parameter.grad.copy_(torch.where(active, changed, parameter.grad))


@dataclass(frozen=True, kw_only=True)
class OGMGEConfig(MethodConfig, name="ogm-ge"):
    """On-the-fly gradient modulation with generalisation enhancement."""

    source = "Peng et al., Balanced Multimodal Learning via On-the-fly Gradient Modulation, CVPR 2022"
    method = OGMGE
    rules = {"alpha": NOT_NEGATIVE}
    shares = {"end": 0.5}
    search = {"alpha": Range(0.1, 1.5), "noise": (True, False)}

    alpha: float = 0.8
    """Strength of the modulation."""
    start: int = 0
    """First epoch of modulation."""
    end: int | None = 50
    """Last epoch of modulation; the source has 50 of 100. None: the last of the run."""
    noise: bool = True
    """Whether normal noise with the standard deviation of a gradient is added to it (GE)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start < 0 or (self.end is not None and self.end < self.start):
            raise UserError(f"method.start and method.end must be 0 ≤ start ≤ end, got {self.start}, {self.end}")


def coefficients(scores: Tensor, alpha: float) -> Tensor:
    """Return k (M,) of scores s (M,).

    Examples
    --------
    >>> coefficients(torch.tensor([4.0, 2.0]), alpha=0.5).tolist() == [1 - torch.tensor(1.0).tanh().item(), 1.0]
    True
    """
    others = (scores.sum() - scores) / (len(scores) - 1)
    ratio = scores / others
    return torch.where(ratio > 1, 1 - torch.tanh(alpha * ratio), torch.ones_like(ratio))


def modulated(encoder: nn.Module) -> list[nn.Parameter]:
    """Return the weights of convolutions, or all matrices if there are none."""
    parameters = list(encoder.parameters())
    return [p for p in parameters if p.ndim == 4] or [p for p in parameters if p.ndim >= 2]
