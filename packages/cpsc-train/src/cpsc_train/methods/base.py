"""Interface of a training method."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsc_train.models import FUSED, MultimodalClassifier

SCALE = 2.0**10
"""What losses are multiplied by for gradients that are taken by hand, so that they survive half precision."""

Heads = dict[str, Tensor]
"""One tensor a head: each modality and ``fused``."""


@dataclass(frozen=True)
class StepLosses:
    """What a method makes of one batch.

    Parameters
    ----------
    terms
        Loss terms by name, 0-d; their sum is what is minimised.
    logits
        By head, (B, C); for the running accuracy.
    diagnostics
        0-d figures by name, averaged over an epoch and logged.
    distributions
        By kind and modality, figures in [0, 1] of any shape; their mean and a histogram an epoch are logged.
    """

    terms: dict[str, Tensor]
    logits: Heads
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    distributions: dict[str, Heads] = field(default_factory=dict)

    def __or__(self, other: StepLosses) -> StepLosses:
        """Return what two steps on the same batch made of it."""
        return StepLosses(
            self.terms | other.terms,
            self.logits | other.logits,
            self.diagnostics | other.diagnostics,
            self.distributions | other.distributions,
        )

    def kept(self) -> StepLosses:
        """Return a copy without what gradients were computed from; a recorded CUDA graph writes over the original."""

        def copies(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.detach().clone() for name, value in values.items()}

        distributions = {kind: copies(values) for kind, values in self.distributions.items()}
        return StepLosses(copies(self.terms), copies(self.logits), copies(self.diagnostics), distributions)


@dataclass(frozen=True)
class PartFeatures:
    """Features of a whole part of the data, in evaluation mode; the same on every process.

    Parameters
    ----------
    features
        By modality, (N, d); row i is that which `Method.on_batch_start` calls i.
    labels
        (N,).
    """

    features: dict[str, NDArray[np.float32]]
    labels: NDArray[np.int64]


class Method(nn.Module):
    """What one training method adds to the loop: modules, loss terms, and the logits it predicts with.

    A method owns its own modules (the loop optimises and saves them) and is handed the model; it never owns the loop.
    Everywhere, `features` are {m: (B, d)} from the encoders, and `qhat` holds the conformal quantile of each head as a
    0-d tensor, or is ``None`` while there is no conformal predictor.
    Shapes: B samples, d feature width, C classes, S scores a calibration sample.
    """

    warmup: int = 0
    """Epochs of plain training before the conformal predictor is built; no earlier epoch may be selected."""
    conformal: bool = False
    """Whether the conformal predictor takes part in training, so that it has to be refreshed in the loop."""

    steps_per_batch: int = 1
    """Optimizer steps for each batch."""

    @abstractmethod
    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return the loss terms of a training batch with labels (B,)."""

    def on_fit_start(self, rows: int) -> None:
        """Called once, before anything else, with the number of training rows."""

    def on_epoch_start(self, epoch: int, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Called when an epoch begins, or continues after a pause.

        Parameters
        ----------
        epoch
            Zero-based.
        all_reduce
            Sums a tensor over all processes.
        """

    def features_needed(self, epoch: int) -> tuple[str, ...]:
        """Return the parts of the data whose features `on_features` needs before this epoch; each is a forward pass."""
        return ()

    def on_features(self, model: MultimodalClassifier, parts: dict[str, PartFeatures]) -> None:
        """Called before an epoch with the features of the parts that `features_needed` named."""

    def on_step_start(self, step: int) -> tuple[str, ...] | None:
        """Called before each of the `steps_per_batch` steps; return the modalities it encodes, ``None`` for all."""
        return None

    def on_batch_start(self, rows: Tensor) -> None:
        """Called before each batch with the indices (B,) of its training rows, which are the same in every epoch."""

    def backward(
        self, model: MultimodalClassifier, terms: dict[str, Tensor], backward: Callable[[Tensor], None]
    ) -> None:
        """Call `backward` on what is to be minimised: the sum of the terms, unless a method says otherwise.

        Parameters
        ----------
        model
            The model; its encoders hold the parameters that most methods are about.
        terms
            Loss terms of a batch.
        backward
            Adds the gradient of a 0-d tensor to that of the step. It may be called once a batch.
        """
        backward(total(terms))

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Called after the last backward pass of a step, before clipping, to change gradients in place.

        Parameters
        ----------
        model
            The model.
        all_reduce
            Sums a tensor over all processes.
        """

    def notes(self) -> Tensor | None:
        """Return what is to be remembered of the rows of the batch that was just seen, (B, K); nothing by default."""
        return None

    def remember(self, rows: Tensor, notes: Tensor) -> None:
        """Keep the notes (R, K) of the rows (R,) of a step, those of all processes, in the order of its batches."""

    def on_refresh(self, model: MultimodalClassifier) -> None:
        """Called after all calibration samples have been scored with the current `model`."""

    def predict(self, model: MultimodalClassifier, features: Heads, qhat: Heads | None) -> Heads:
        """Return the logits (B, C) of samples without a label, by head."""
        return model.classify(features)

    def row_weights(self) -> Heads:
        """Return how much each training row counts by head, {head: (N,)}; nothing where all count alike."""
        return {}

    def calibration_logits(
        self,
        model: MultimodalClassifier,
        features: Heads,
        labels: Tensor,
        qhat: Heads | None,
    ) -> Heads:
        """Return the logits (B, S, C) that the in-loop conformal predictor scores, by head; S is fixed a head."""
        return {head: logits[:, None] for head, logits in self.predict(model, features, qhat).items()}


def total(terms: dict[str, Tensor]) -> Tensor:
    """Return the sum of loss terms, in single precision."""
    return torch.stack([term.float() for term in terms.values()]).sum()


def alone(model: MultimodalClassifier, features: Heads) -> Heads:
    """Return what the fused decision would be of each modality alone, {m: (B, C)}."""
    return {m: model.classify({m: h})[FUSED] for m, h in features.items()}


def zeroed(model: MultimodalClassifier, features: Heads, kept: Collection[str]) -> Tensor:
    """Return the fused logits (B, C) where the features of modalities that are not kept are zeros."""
    return model.classify({m: h if m in kept else torch.zeros_like(h) for m, h in features.items()})[FUSED]


def true_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probability (B,) of the true class, of logits (B, C)."""
    return logits.float().softmax(-1).gather(1, labels[:, None])[:, 0]


def flat_gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Return the gradient (P,) of a 0-d loss, zeros where it has none; the graph is kept."""
    found = torch.autograd.grad(loss.float() * SCALE, parameters, retain_graph=True, allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([part.flatten().float() for part in parts]) / SCALE


def trained(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that an optimizer changes."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
