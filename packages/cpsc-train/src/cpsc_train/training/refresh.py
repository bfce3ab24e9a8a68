"""The conformal predictor in the training loop: calibration scores and q̂ of every head, refreshed during training.

Shapes: N calibration samples, S scores a sample, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from conformal_core import LAC, CalibrationBuffer, conformal_quantile
from cpsc_train.data import Batch
from cpsc_train.training.config import ConformalConfig
from cpsc_train.training.distributed import Process

Score = Callable[[Batch, dict[str, Tensor] | None], dict[str, Tensor]]
"""From calibration samples and the current q̂ to logits {head: (B, S, C)}, in evaluation mode, without gradient."""


class Refresh:
    """Calibration scores of every head, updated by a policy, and their quantiles.

    Each process scores its share of the samples and receives the scores of all others, so q̂ is exact. A refresh costs
    the forward pass of the samples scored and an O(N·S) selection a head; nothing is copied to the host.

    `samples` are the N calibration samples, without augmentation, on the device of the model. With the batch size B of
    training, at most 4B samples are scored at once, and the default slice of ``rolling`` is B / 4.
    """

    def __init__(
        self, samples: Batch, config: ConformalConfig, *, batch_size: int, score: Score, process: Process | None = None
    ) -> None:
        self.qhat: dict[str, Tensor] | None = None
        """Quantile of each head, 0-d; None before the first refresh."""
        self.on_full: list[Callable[[], None]] = []
        """Called each time all samples have been scored with the same model."""
        self._samples = samples
        self._config = config
        self._policy, _, interval = config.refresh.partition(":")
        self._interval = int(interval or 1)
        rolling = self._policy == "rolling"
        self._slice = min(config.slice or -(-batch_size // 4), len(samples)) if rolling else len(samples)
        self._most = 4 * batch_size
        self._score = score
        self._process = process or Process()
        self._buffers: dict[str, CalibrationBuffer] = {}
        self._having = {m: mask.nonzero()[:, 0] for m, mask in samples.present.items()}
        self._steps = 0
        self._next = 0

    def start_epoch(self) -> None:
        """Score all samples if there are no quantiles yet, or if the policy is ``epoch``."""
        if self.qhat is None or self._policy == "epoch":
            self._rescore(0, len(self._samples))

    def after_step(self) -> None:
        """Score the samples that the policy asks for after an optimizer step."""
        self._steps += 1
        for buffer in self._buffers.values():
            buffer.advance()
        if self._policy == "epoch" or self._steps % self._interval:
            return
        self._rescore(self._next, self._slice)
        self._next = (self._next + self._slice) % len(self._samples)

    @property
    def staleness(self) -> float:
        """Age of the oldest score in steps; waits for the device."""
        return max((float(buffer.staleness) for buffer in self._buffers.values()), default=0.0)

    def quantiles(self, score: Score) -> dict[str, Tensor]:
        """Return the quantiles of all samples scored by `score`; the stored scores are not changed."""
        rows = torch.arange(len(self._samples), device=self._samples.labels.device)
        return {head: self._quantile(head, scores) for head, scores in self._scores(rows, score).items()}

    def state_dict(self) -> dict[str, Any]:
        """Return scores, ages, quantiles and the position of the next slice."""
        buffers = {head: buffer.state_dict() for head, buffer in self._buffers.items()}
        return {"buffers": buffers, "qhat": self.qhat, "steps": self._steps, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        for head, saved in state["buffers"].items():
            self._buffers[head] = CalibrationBuffer(len(saved["scores"]), like=saved["scores"])
            self._buffers[head].load_state_dict(saved)
        self.qhat, self._steps, self._next = state["qhat"], state["steps"], state["next"]

    def _rescore(self, first: int, count: int) -> None:
        rows = torch.arange(first, first + count, device=self._samples.labels.device) % len(self._samples)
        scores = self._scores(rows, self._score)
        self.qhat = {head: self._overwrite(head, rows, values) for head, values in scores.items()}
        if count == len(self._samples):
            for callback in self.on_full:
                callback()

    def _scores(self, rows: Tensor, score: Score) -> dict[str, Tensor]:
        """Return the scores (n, S) of `rows` by head, of which this process computes its share."""
        mine = rows
        if self._process.world > 1:
            share = -(-len(rows) // self._process.world)  # the same on each process, so none lacks rows
            places = self._process.rank + self._process.world * torch.arange(share, device=rows.device)
            mine = rows[places % len(rows)]
        parts = [self._part_scores(part, score) for part in torch.split(mine, self._most)]
        return {head: self._process.gather(torch.cat([p[head] for p in parts]), len(rows)) for head in parts[0]}

    def _part_scores(self, rows: Tensor, score: Score) -> dict[str, Tensor]:
        samples = self._samples
        inputs = {name: x[rows] for name, x in samples.inputs.items()}
        present = {name: mask[rows] for name, mask in samples.present.items()}
        part = Batch((), samples.labels[rows], inputs, samples.rows[rows], present)
        return {head: label_scores(logits, part.labels) for head, logits in score(part, self.qhat).items()}

    def _overwrite(self, head: str, rows: Tensor, scores: Tensor) -> Tensor:
        """Store the scores (n, S) of `rows` and return the quantile; the S scores of a sample are adjacent."""
        per_sample = scores.shape[1]
        if head not in self._buffers:
            self._buffers[head] = CalibrationBuffer(len(self._samples) * per_sample, like=scores)
        places = rows[:, None] * per_sample + torch.arange(per_sample, device=rows.device)
        buffer = self._buffers[head]
        buffer.overwrite(places.flatten(), scores.flatten(), check=False)
        return self._quantile(head, buffer.scores.reshape(-1, per_sample))

    def _quantile(self, head: str, scores: Tensor) -> Tensor:
        """Return the quantile of scores (N, S); that of a modality's head is over the samples that have it."""
        scores = (scores[self._having[head]] if head in self._having else scores).flatten()
        if self._config.quantile == "exact":
            qhat: Tensor = conformal_quantile(scores, alpha=self._config.alpha, check=False)
            return qhat
        n = len(scores)
        return scores.sort().values[min(math.ceil((1 - Fraction(str(self._config.alpha))) * n), n - 1)]


def label_scores(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the LAC scores (B, S) of the true labels (B,), from logits (B, S, C)."""
    scores: Tensor = LAC()(logits.float().softmax(-1), labels[:, None].expand(logits.shape[:2]), check=False)
    return scores
