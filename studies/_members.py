"""Joint + unimodal training of several models at once that differ by the weights of the training rows alone.

All members have the same first parameters and the same batches, so their differences are those of the weights.
Legend: E members, H heads (each modality and the fused one), N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from cpsc_train.data import Modality
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig

Inputs = Mapping[str, Tensor]
"""By modality, (N, d)."""


class Members:
    """E models in training.

    Parameters
    ----------
    inputs, labels
        Training rows: {m: (N, d)}, and (N,).
    weights
        (E, H, N), weights of the rows in each cross-entropy.
    classes, hidden, seed
        Number of classes; width of the hidden layer; seed of parameters and batches.
    """

    def __init__(
        self, inputs: Inputs, labels: Tensor, weights: Tensor, *, classes: int, hidden: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        modalities = {m: Modality(kind="vector", shape=(x.shape[1],)) for m, x in inputs.items()}
        encoders = dict.fromkeys(inputs, MLPConfig(hidden=hidden))
        self._model = MultimodalClassifier(modalities, encoders, dim=32, classes=classes)
        self._inputs, self._labels, self._weights = inputs, labels, weights
        self._parameters = {
            name: p.detach().expand(len(weights), *p.shape).clone().requires_grad_()
            for name, p in self._model.named_parameters()
        }
        self._optimizer = torch.optim.Adam(self._parameters.values(), lr=2e-3, fused=True)

    def fit(self, validation: tuple[Inputs, Tensor], *, epochs: int, batch_size: int) -> Tensor:
        """Train, restore the best epoch of each member, and return these epochs (E,), counted from 1.

        The best epoch is the first with the largest fused accuracy on the validation rows.
        """
        inputs, labels = validation
        best = torch.full((len(self._weights),), -1.0)
        chosen = torch.zeros(len(best), dtype=torch.int64)
        kept = {name: p.detach().clone() for name, p in self._parameters.items()}
        for epoch in range(1, epochs + 1):
            for rows in torch.randperm(len(self._labels)).split(batch_size):
                self._step(rows)
            accuracy = (self.logits(inputs)[:, -1].argmax(-1) == labels).float().mean(-1)
            better = accuracy > best
            best = torch.where(better, accuracy, best)
            chosen[better] = epoch
            for name, p in self._parameters.items():
                kept[name][better] = p.detach()[better]
        with torch.no_grad():
            for name, p in self._parameters.items():
                p.copy_(kept[name])
        return chosen

    @torch.no_grad()
    def logits(self, inputs: Inputs) -> Tensor:
        """Return the logits (E, H, N, C); the fused head is the last."""
        return self._logits(inputs)

    def _logits(self, inputs: Inputs) -> Tensor:
        def one(parameters: dict[str, Tensor]) -> Tensor:
            logits: dict[str, Tensor] = functional_call(self._model, parameters, (inputs,))
            return torch.stack([*(logits[m] for m in inputs), logits[FUSED]])

        stacked: Any = vmap(one)(self._parameters)
        return stacked

    def _step(self, rows: Tensor) -> None:
        logits = self._logits({m: x[rows] for m, x in self._inputs.items()})
        labels = self._labels[rows].expand(logits.shape[:-1])
        losses = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
        weighted = losses.view(labels.shape) * self._weights[:, :, rows]
        self._optimizer.zero_grad()
        weighted.mean(-1).sum().backward()
        self._optimizer.step()
