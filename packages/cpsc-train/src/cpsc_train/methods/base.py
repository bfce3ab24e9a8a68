"""Interface of a training method."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cpsc_train.config import Choice
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, mean_present

SCALE = 2.0**10
"""Factor of losses whose gradients are taken by hand, so they do not underflow in half precision."""

AllReduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes."""
Heads = dict[str, Tensor]
"""One tensor per head: each modality and ``fused``."""
Quantiles = Heads | None
"""Conformal quantile of each head, 0-d, or None while there is no conformal predictor."""


@dataclass(frozen=True)
class StepLosses:
    """Loss terms of one batch, and values to log."""

    terms: dict[str, Tensor]
    """Loss terms by name, 0-d; their sum is minimised."""
    logits: Heads
    """By head, (B, C); for the running accuracy."""
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    """0-d values by name; their mean over an epoch is logged."""
    distributions: dict[str, Heads] = field(default_factory=dict)
    """By kind and modality, values in [0, 1] of any shape; their spread over an epoch is logged."""

    def __or__(self, other: StepLosses) -> StepLosses:
        """Return the union of two steps on the same batch."""
        return StepLosses(
            self.terms | other.terms,
            self.logits | other.logits,
            self.diagnostics | other.diagnostics,
            self.distributions | other.distributions,
        )

    def kept(self) -> StepLosses:
        """Return a detached copy; a recorded CUDA graph overwrites the original."""

        def copies(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.detach().clone() for name, value in values.items()}

        distributions = {kind: copies(values) for kind, values in self.distributions.items()}
        return StepLosses(copies(self.terms), copies(self.logits), copies(self.diagnostics), distributions)


@dataclass(frozen=True)
class PartFeatures:
    """Features of rows of a part of the data, in evaluation mode; `Method` and `Inference` get all rows, in order."""

    features: dict[str, NDArray[np.float32]]
    """By modality, (N, d); row i has index i in `Method.rows`."""
    labels: NDArray[np.int64]
    """(N,)."""
    present: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """By incomplete modality, true for rows that have it, (N,); features of the others are zeros."""
    depths: dict[str, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)
    """By modality, activations (N, d_k) at several depths of its encoder, where they were asked for."""

    def mapped(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> PartFeatures:
        """Return other rows: `change` maps each array, (N, ...)."""
        return PartFeatures(
            {m: change(h) for m, h in self.features.items()},
            change(self.labels),
            {m: change(mask) for m, mask in self.present.items()},
            {m: tuple(change(h) for h in values) for m, values in self.depths.items()},
        )

    def of(self, modality: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return features (n, d) and labels (n,) of the rows that have a modality."""
        rows = self.present.get(modality, slice(None))
        return self.features[modality][rows], self.labels[rows]

    def depths_of(self, modality: str) -> tuple[NDArray[np.float32], ...]:
        """Return the activations (n, d_k) at each depth, of the rows that have a modality."""
        rows = self.present.get(modality, slice(None))
        return tuple(h[rows] for h in self.depths[modality])


class StepSums:
    """Sums of tensors over the batches of an optimizer step, and over all processes."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, ...]] = []

    def add(self, *tensors: Tensor) -> None:
        """Add the tensors of a batch."""
        self._batches.append(tensors)

    def pop(self, all_reduce: AllReduce) -> tuple[Tensor, ...]:
        """Return the sum of each tensor, and reset."""
        sums = tuple(all_reduce(torch.stack(parts).sum(0)) for parts in zip(*self._batches, strict=True))
        self._batches.clear()
        return sums


class Method(nn.Module):
    """Base of all training methods: modules, loss terms, and the logits used for prediction.

    The loop optimises and saves the modules of a method and passes it the model; a method never runs the loop.
    `features` are always {m: (B, d)} from the encoders. `present` is true for samples that have a modality, {m: (B,)
    bool}; one that is not listed is present in all samples. Features of samples that lack a modality are zeros, without
    a gradient to the encoder; so are the logits of the model's heads. Every quantity of a single modality, such as its
    loss, is a mean over the samples that have it.
    Shapes: B samples, d feature width, C classes, S scores per calibration sample.

    Parameters
    ----------
    config
        Options of the method.
    model
        The model, not yet trained.
    modalities
        Their names, in order.
    """

    warmup: int = 0
    """Epochs of plain training before the conformal predictor is built; these epochs are never selected."""
    conformal: bool = False
    """Whether training uses the conformal predictor, which is then refreshed in the loop."""

    static_graph: bool = False
    """Whether every step uses the same parameters, except that others may be used in warm-up. Several processes then
    need not search each step for parameters without a gradient; it must not be set for a method that varies them."""
    steps_per_batch: int = 1
    """Optimizer steps per batch."""

    config: Choice
    rows: Tensor
    """Indices (B,) of the training rows of the current batch, the same in every epoch."""
    row_ids: Sequence[str] = ()
    """Ids of the training rows, set before `on_fit_start`."""

    def __init__(self, config: Choice, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.config = config
        self.modalities = modalities
        self.rows = torch.zeros(0, dtype=torch.int64)
        self.sums = StepSums()
        """Sums over the batches of a step, and over all processes."""

    @abstractmethod
    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return the loss terms of a training batch with labels (B,)."""

    def on_fit_start(self, rows: int) -> None:
        """Called once before training with the number of training rows."""

    def on_epoch_start(self, epoch: int, all_reduce: AllReduce) -> None:
        """Called when an epoch starts, or resumes after an interruption.

        Parameters
        ----------
        epoch
            Zero-based.
        all_reduce
            Sums a tensor over all processes.
        """

    def features_needed(self, epoch: int) -> tuple[str, ...]:
        """Return the parts whose features `on_features` needs before this epoch; each costs a forward pass."""
        return ()

    def on_features(self, model: MultimodalClassifier, parts: dict[str, PartFeatures]) -> None:
        """Called before an epoch with the features of the parts returned by `features_needed`."""

    def on_step_start(self, step: int) -> tuple[str, ...] | None:
        """Called before each of the `steps_per_batch` steps; return the modalities to encode. None: all of them."""
        return None

    def on_batch_start(self, rows: Tensor) -> None:
        """Called before each batch with the indices (B,) of its training rows."""
        self.rows = rows

    def backward(
        self, model: MultimodalClassifier, terms: dict[str, Tensor], backward: Callable[[Tensor], None]
    ) -> None:
        """Call `backward` on the loss to minimise; by default, the sum of the terms.

        Parameters
        ----------
        model
            The model.
        terms
            Loss terms of a batch.
        backward
            Adds the gradient of a 0-d tensor to that of the step. It may be called once a batch.
        """
        backward(total(terms))

    def on_before_optimizer_step(self, model: MultimodalClassifier, all_reduce: AllReduce) -> None:
        """Called after the last backward pass of a step, before clipping, to change gradients in place.

        Parameters
        ----------
        model
            The model.
        all_reduce
            Sums a tensor over all processes.
        """

    def notes(self) -> Tensor | None:
        """Return values (B, K) to remember for the rows of the last batch. None: nothing."""
        return None

    def remember(self, rows: Tensor, notes: Tensor) -> None:
        """Store the notes (R, K) of the rows (R,) of a step, from all processes, in the order of its batches."""

    def on_refresh(self, model: MultimodalClassifier) -> None:
        """Called after all calibration samples were scored with the current `model`."""

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return the logits (B, C) of unlabelled samples, by head."""
        return model.classify(features, present)

    def row_weights(self) -> Heads:
        """Return the weight of each training row, {head: (N,)}; empty if all weights are equal."""
        return {}

    def calibration_logits(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return the logits (B, S, C) scored by the in-loop conformal predictor, by head; S is constant for a head."""
        return {head: logits[:, None] for head, logits in self.predict(model, features, qhat, present).items()}


class EpochMethod(Method):
    """Base of methods whose losses depend on the epoch: a buffer, since a recorded CUDA graph cannot read a number."""

    epoch: Tensor

    def __init__(self, config: Choice, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def on_epoch_start(self, epoch: int, all_reduce: AllReduce) -> None:
        """Store the epoch."""
        self.epoch.fill_(epoch)


def head_cross_entropy(
    logits: Tensor, labels: Tensor, present: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy, 0-d, of logits (B, C) over the samples that are present (B,); 0 if there are none.

    `weights` (B,), which have mean 1 over the training rows, multiply the cross-entropy of each sample.

    Examples
    --------
    >>> logits, labels = torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 1])
    >>> torch.equal(head_cross_entropy(logits, labels, torch.tensor([True, False])), torch.tensor(2.0).log())
    True
    """
    if present is None and weights is None:
        return cross_entropy(logits, labels)
    losses = cross_entropy(logits, labels, reduction="none")
    return mean_present(losses if weights is None else weights * losses, present)


def total(terms: dict[str, Tensor]) -> Tensor:
    """Return the sum of loss terms, in single precision."""
    return torch.stack([term.float() for term in terms.values()]).sum()


def alone(model: MultimodalClassifier, features: Heads, present: Present = COMPLETE) -> Heads:
    """Return the fused logits of each modality alone, {m: (B, C)}."""
    return {m: model.classify({m: h}, present)[FUSED] for m, h in features.items()}


def zeroed(model: MultimodalClassifier, features: Heads, kept: Collection[str], present: Present = COMPLETE) -> Tensor:
    """Return the fused logits (B, C) with zeros for the features of all modalities but those kept."""
    zeros = {m: h if m in kept else torch.zeros_like(h) for m, h in features.items()}
    return model.classify(zeros, present)[FUSED]


def true_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probability (B,) of the true class under logits (B, C)."""
    return logits.float().softmax(-1).gather(1, labels[:, None])[:, 0]


def flat_gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Return the gradient (P,) of a 0-d loss, zeros for parameters it does not depend on; the graph is kept."""
    gradients = torch.autograd.grad(loss.float() * SCALE, parameters, retain_graph=True, allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
    return torch.cat([part.flatten().float() for part in parts]) / SCALE


def trained(module: nn.Module) -> list[nn.Parameter]:
    """Return the trainable parameters."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
