"""OGM-GE: the encoder of the modality that is ahead learns more slowly, and gradients are given noise.

Source: Peng et al., *Balanced Multimodal Learning via On-the-fly Gradient Modulation*, CVPR 2022, equations 8 to 12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cpsc_train.errors import UserError
from cpsc_train.methods.base import Heads, Method, StepLosses, alone, true_probability
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import FUSED, MultimodalClassifier


@dataclass(frozen=True, kw_only=True)
class OGMGEConfig(MethodConfig, name="ogm-ge"):
    """On-the-fly gradient modulation with generalisation enhancement."""

    source = "Peng et al., Balanced Multimodal Learning via On-the-fly Gradient Modulation, CVPR 2022"
    rules = MappingProxyType({"alpha": NOT_NEGATIVE})
    shares = MappingProxyType({"end": 0.5})
    search = MappingProxyType({"alpha": Range(0.1, 1.5), "noise": (True, False)})

    alpha: float = 0.8
    """How strongly the modality that is ahead is slowed down."""
    start: int = 0
    """First epoch of modulation."""
    end: int | None = 50
    """First epoch without it; never if absent."""
    noise: bool = True
    """Whether gradients are given normal noise of their own deviation (GE)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start < 0 or (self.end is not None and self.end < self.start):
            raise UserError(f"method.start and method.end must be 0 ≤ start ≤ end, got {self.start}, {self.end}")

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        return OGMGE(self, modalities)


class OGMGE(Method):
    """Cross-entropy of the fused decision, whose gradient in encoder m is multiplied by k_m.

    s_m sums over a step the probability that modality m alone gives the true class, and r_m = s_m over that of the
    others, of which the mean is taken: the source has two. k_m = 1 − tanh(α r_m) where r_m > 1, else 1. It applies to
    the weights of convolutions, as in the source, or to all matrices of an encoder that has none.

    Parameters
    ----------
    config
        Options.
    modalities
        Their names.
    """

    epoch: Tensor

    def __init__(self, config: OGMGEConfig, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.config = config
        self._modalities = modalities
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self._scores: list[Tensor] = []

    def on_epoch_start(self, epoch: int, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Note the epoch."""
        self.epoch.fill_(epoch)

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return ``ce_fused``."""
        logits = model.classify(features)
        with torch.no_grad():
            true = [true_probability(z, labels).sum() for z in alone(model, features).values()]
        self._scores.append(torch.stack(true))
        return StepLosses({"ce_fused": cross_entropy(logits[FUSED], labels)}, logits)

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Scale gradients, and add noise."""
        scores = all_reduce(torch.stack(self._scores).sum(0))
        self._scores.clear()
        processes = all_reduce(torch.ones_like(scores[0]))
        active = (self.epoch >= self.config.start) & (
            self.epoch < (2**62 if self.config.end is None else self.config.end)
        )
        for modality, k in zip(self._modalities, coefficients(scores, self.config.alpha), strict=True):
            for parameter in modulated(model.encoders[modality]):
                if parameter.grad is None:
                    continue
                changed = k * parameter.grad
                if self.config.noise:
                    # Every process must draw the same: the sum of W normal draws, divided by √W, is one.
                    noise = all_reduce(torch.randn_like(changed)) / processes.sqrt()
                    changed += noise * (parameter.grad.std() + 1e-8)
                parameter.grad.copy_(torch.where(active, changed, parameter.grad))


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
    """Return the weights of convolutions, or all matrices where there are none."""
    parameters = list(encoder.parameters())
    return [p for p in parameters if p.ndim == 4] or [p for p in parameters if p.ndim >= 2]
