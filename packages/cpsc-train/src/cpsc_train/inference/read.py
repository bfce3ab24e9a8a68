"""READ: test-time adaptation of the fusion to batches of unlabelled rows.

Source: Yang et al., *Test-time Adaption against Multi-modal Reliability Bias*, ICLR 2024, and its released code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cpsc_train.config.choice import COUNT, FRACTION, POSITIVE
from cpsc_train.inference.base import NO_DEPTHS, Depths, Inference, InferenceConfig, Trained, of_rows
from cpsc_train.methods import Method
from cpsc_train.methods.base import Heads, Quantiles
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present

TINY = torch.finfo(torch.float32).tiny


class READ(Inference):
    """Adapt parameters to the rows of a condition, batch after batch, and predict each batch after its steps.

    As in the source, parameters adapt online over the batches in random order and start anew for each condition. The
    source adapts the attention between modalities; here, the parameters of the fusion are adapted. If the fused
    decision depends on none of them (late fusion, evidential methods), those of the heads are, or else those of the
    method. The run's model is not changed.
    """

    config: READConfig

    def __init__(self, config: READConfig, trained: Trained) -> None:
        super().__init__(config, trained)
        self._whole = _Whole(trained.model, trained.method, trained.qhat)

    def predict(self, features: Heads, present: Present = COMPLETE, depths: Depths = NO_DEPTHS) -> tuple[Heads, Heads]:
        """Return the logits after adaptation; there are no weights."""
        rows = len(next(iter(features.values())))
        order = self.trained.order(rows)
        batches = torch.split(order, self.config.batch_size)
        with torch.enable_grad():
            adapted = self._initial(of_rows(features, batches[0]), of_rows(present, batches[0]))
        if not adapted:
            return self.trained.logits(features, present), {}
        optimizer = torch.optim.Adam(list(adapted.values()), lr=self.config.lr)
        parts = [
            self._adapt(of_rows(features, batch), of_rows(present, batch), adapted, optimizer) for batch in batches
        ]
        back = order.argsort().to(next(iter(features.values())).device)
        return {head: torch.cat([part[head] for part in parts])[back] for head in parts[0]}, {}

    def _adapt(self, features: Heads, present: Present, adapted: Heads, optimizer: torch.optim.Optimizer) -> Heads:
        """Update the adapted parameters on a batch, and return its logits."""
        for _ in range(self.config.steps):
            optimizer.zero_grad()
            with torch.enable_grad():
                loss = self._loss(features, present, adapted)
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        logits: Heads = functional_call(self._whole, adapted, (features, present))
        return logits

    def _initial(self, features: Heads, present: Present) -> Heads:
        """Return copies of the parameters to adapt, by name."""
        copies = {
            name: parameter.detach().clone().requires_grad_()
            for name, parameter in self._whole.named_parameters()
            if not name.startswith("model.encoders.")
        }
        loss = self._loss(features, present, copies)
        if not loss.requires_grad:
            return {}
        gradients = torch.autograd.grad(loss, list(copies.values()), allow_unused=True)
        used = [name for name, gradient in zip(copies, gradients, strict=True) if gradient is not None]
        for group in ("model.fusion.", "model.heads.", "method."):
            if names := [name for name in used if name.startswith(group)]:
                return {name: copies[name] for name in names}
        return {}

    def _loss(self, features: Heads, present: Present, parameters: Heads) -> Tensor:
        logits = functional_call(self._whole, parameters, (features, present))
        return read_loss(logits[FUSED], threshold=self.config.threshold)


@dataclass(frozen=True, kw_only=True)
class READConfig(InferenceConfig, name="read"):
    """READ: adapts the fusion to unlabelled test batches; with late fusion and evidential methods, the heads."""

    inference = READ
    source = "Yang et al., Test-time Adaption against Multi-modal Reliability Bias, ICLR 2024"
    rules = {"lr": POSITIVE, "steps": COUNT, "batch_size": COUNT, "threshold": FRACTION}

    lr: float = 1e-4
    """Learning rate of Adam."""
    steps: int = 1
    """Steps per batch."""
    batch_size: int = 64
    """Rows in a batch."""
    threshold: float = math.exp(-1)
    """Probability γ of the predicted class: adaptation makes predictions above it more confident, and others less
    confident."""


def read_loss(logits: Tensor, *, threshold: float = math.exp(-1)) -> Tensor:
    """Return mean p_max (1 + log γ − log p_max) − H(mean p) of logits (B, C), 0-d.

    The first term falls as p_max moves away from the threshold γ; the second is the entropy of the mean prediction,
    which must stay high. The released code takes the entropy of the softmax of Σ p instead of that of mean p.

    Examples
    --------
    >>> round(float(read_loss(torch.zeros(3, 4))), 4)  # −¼ log ¼ − log 4
    -1.0397
    """
    p = logits.float().softmax(-1)
    top, mean = p.amax(-1), p.mean(0).clamp_min(TINY)
    confident = (top * (1 + math.log(threshold) - top.log())).mean()
    return confident + (mean * mean.log()).sum()


class _Whole(nn.Module):
    """Model and method as one module, for `functional_call`."""

    def __init__(self, model: MultimodalClassifier, method: Method, qhat: Quantiles) -> None:
        super().__init__()
        self.model = model
        self.method = method
        self._qhat = qhat

    def forward(self, features: Heads, present: Present) -> Heads:
        return self.method.predict(self.model, features, self._qhat, present)
