"""InfoReg: while the Fisher information of the leading encoder grows quickly, its parameters are held back.

Source: Huang et al., *Adaptive Unimodal Regulation for Balanced Multimodal Information Acquisition*, CVPR 2025.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cpsc_train.methods.base import AllReduce, EpochMethod, Heads, Quantiles, StepLosses, trained, true_probability
from cpsc_train.methods.joint import joint_losses
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, MultimodalClassifier, Present, numbers_present, only_present, per_sample


class InfoReg(EpochMethod):
    """Cross-entropies of all heads; the gradient of the leading encoder becomes g + β e^{tanh(s_m − s)} (θ − θ₀).

    θ₀ are the parameters at the start of the epoch. s_m sums over a step the probability that modality m gives the true
    class, and s is the mean of the others' s; the leading modality has the largest s_m, and is held back while its
    information grows. The trace of the Fisher information in an epoch is the mean of the squared gradients of each
    weight of an encoder, summed over steps and weights. Information is its mean over the last ``window`` epochs, with
    zeros before the first epoch, and grows if (new − old) / new exceeds ``growth``. In the first epoch it always grows.

    The source has two modalities and different constants for them in its code, of which one branch cannot be reached;
    here all modalities have β. Gradients enter the trace before the change.
    """

    config: InfoRegConfig
    traces: Tensor
    trace: Tensor
    growing: Tensor
    started: Tensor

    def __init__(self, config: InfoRegConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self.start = deepcopy(model.encoders).requires_grad_(False)
        self.register_buffer("traces", torch.zeros(len(modalities), config.window + 1))
        self.register_buffer("trace", torch.zeros(len(modalities)))
        self.register_buffer("growing", torch.ones(len(modalities), dtype=torch.bool))
        self.register_buffer("started", torch.full((), -1, dtype=torch.int64))

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused`` and ``ce_<modality>``."""
        out = joint_losses(model, features, labels, present, unimodal=True)
        with torch.no_grad():
            true = {m: only_present(true_probability(out.logits[m], labels), present.get(m)) for m in self.modalities}
            numbers = numbers_present(self.modalities, present, labels)
            self.sums.add(torch.stack([p.sum() for p in true.values()]), numbers)
        return out

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: AllReduce) -> None:
        """Start an epoch in its first step, add to the traces, and hold the leading encoder back."""
        scores = per_sample(*self.sums.pop(all_reduce))
        first = self.started != self.epoch
        self._start_epoch(model, first)
        self.trace += torch.stack([squared_gradients(model.encoders[m]) for m in self.modalities])
        strengths = self.config.strength * strength(scores) * self.growing
        for m, factor in zip(self.modalities, strengths, strict=True):
            for parameter, start in zip(trained(model.encoders[m]), self._starts(m, model), strict=True):
                if parameter.grad is not None:
                    parameter.grad += factor.to(parameter.dtype) * (parameter.detach() - start)

    def _start_epoch(self, model: MultimodalClassifier, first: Tensor) -> None:
        """Store the parameters and the trace of the epoch before, if this is the `first` step of an epoch."""
        for m in self.modalities:
            for parameter, start in zip(trained(model.encoders[m]), self._starts(m, model), strict=True):
                start.copy_(torch.where(first, parameter.detach(), start))
        later = first & (self.started >= 0)
        self.traces.copy_(torch.where(later, torch.cat([self.traces[:, 1:], self.trace[:, None]], 1), self.traces))
        self.growing.copy_(torch.where(later, growth(self.traces) > self.config.growth, self.growing))
        self.trace.copy_(torch.where(first, torch.zeros_like(self.trace), self.trace))
        self.started.copy_(self.epoch)

    def _starts(self, modality: str, model: MultimodalClassifier) -> list[nn.Parameter]:
        """Return the stored copies of the trainable parameters of an encoder."""
        pairs = zip(model.encoders[modality].parameters(), self.start[modality].parameters(), strict=True)
        return [start for parameter, start in pairs if parameter.requires_grad]


@dataclass(frozen=True, kw_only=True)
class InfoRegConfig(MethodConfig, name="inforeg"):
    """Information acquisition regulation: the leading encoder is held back while its information grows."""

    source = "Huang et al., Adaptive Unimodal Regulation for Balanced Multimodal Information Acquisition, CVPR 2025"
    method = InfoReg
    rules = {"strength": NOT_NEGATIVE, "window": COUNT, "growth": NOT_NEGATIVE}
    shares = {"window": 10 / 80}
    search = {"strength": Range(0.05, 4.0, log=True), "growth": Range(0.005, 0.2, log=True)}

    strength: float = 0.95
    """β of the pull to the parameters at the start of the epoch."""
    window: int = 10
    """Epochs over which the trace of the Fisher information is averaged."""
    growth: float = 0.05
    """Relative growth of this average from one epoch to the next, above which an encoder is held back; the code of the
    source has 0.04."""


def strength(scores: Tensor) -> Tensor:
    """Return e^{tanh(s_m − s)} for the modality with the largest of the scores (M,), and 0 for the others.

    Examples
    --------
    >>> torch.allclose(strength(torch.tensor([3.0, 1.0])), torch.tensor([2.0, 0.0]).tanh().exp() * torch.tensor([1, 0]))
    True
    """
    others = (scores.sum() - scores) / max(1, len(scores) - 1)
    return torch.where(scores > others, torch.tanh(scores - others).exp(), 0.0) * (scores == scores.max())


def growth(traces: Tensor) -> Tensor:
    """Return the relative growth (M,) of the mean over W epochs, of the traces (M, W + 1) of the last epochs.

    Examples
    --------
    >>> growth(torch.tensor([[0.0, 1.0, 3.0]]))  # from a mean of ½ to a mean of 2
    tensor([0.7500])
    """
    new, old = traces[:, 1:].mean(1), traces[:, :-1].mean(1)
    return torch.where(new > 0, (new - old) / new.clamp(min=torch.finfo(new.dtype).tiny), 0.0)


def squared_gradients(encoder: nn.Module) -> Tensor:
    """Return the mean squared gradient of each weight, summed over weights, 0-d; one that overflowed counts as 0.

    Weights have at least two dimensions: those of linear layers and convolutions.
    """
    weights = [p for p in trained(encoder) if p.ndim >= 2]
    squares = [p.grad.float().square().mean() for p in weights if p.grad is not None]
    if not squares:
        return torch.zeros((), device=next(encoder.parameters()).device)
    total = torch.stack(squares).sum()
    return torch.where(total.isfinite(), total, 0.0)
