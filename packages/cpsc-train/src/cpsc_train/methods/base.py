"""The door through which every training method enters the one loop."""

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
class Examined:
    """Features of a whole part of the data, in evaluation mode; the same on every process.

    Parameters
    ----------
    features
        By modality, (N, d); row i is that which `Method.meets` calls i.
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

    turns: int = 1
    """Optimizer steps that are made of every batch."""

    @abstractmethod
    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return the loss terms of a training batch with labels (B,)."""

    def sized(self, rows: int) -> None:
        """Hear how many training rows there are, once, before anything else."""

    def starts_epoch(self, epoch: int, add_up: Callable[[Tensor], Tensor]) -> None:
        """Hear that an epoch begins, or goes on after a pause; the first is 0. `add_up` adds up over all processes."""

    def examines(self, epoch: int) -> tuple[str, ...]:
        """Return the parts to be shown before an epoch, of ``train`` and ``validation``; each costs a forward pass."""
        return ()

    def examine(self, model: MultimodalClassifier, parts: dict[str, Examined]) -> None:
        """Look at the parts that `examines` has asked for."""

    def takes_turn(self, turn: int) -> tuple[str, ...] | None:
        """Hear which of the `turns` comes next; return the modalities that it encodes, ``None`` for all of them."""
        return None

    def meets(self, rows: Tensor) -> None:
        """Hear which training rows the next batch holds: (B,) places that are the same in every epoch."""

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

    def adjust(self, model: MultimodalClassifier, add_up: Callable[[Tensor], Tensor]) -> None:
        """Change gradients in place, after the last batch of a step and before they are clipped.

        Parameters
        ----------
        model
            The model.
        add_up
            Adds a tensor up over all processes.
        """

    def notes(self) -> Tensor | None:
        """Return what is to be remembered of the rows of the batch that was just seen, (B, K); nothing by default."""
        return None

    def remember(self, rows: Tensor, notes: Tensor) -> None:
        """Keep the notes (R, K) of the rows (R,) of a step, those of all processes, in the order of its batches."""

    def refreshed(self, model: MultimodalClassifier) -> None:
        """Hear that all calibration samples have just been scored with `model` as it is."""

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
