"""The conformal predictor in the training loop: calibration scores and q̂ of every head, refreshed during training.

Shapes: N calibration samples, S scores a sample, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conformal_core import LAC, CalibrationBuffer, conformal_quantile
from cpsc_train.data import Batch
from cpsc_train.training.calibration_share import CalibrationShare
from cpsc_train.training.config import ConformalConfig

Score = Callable[[Batch, dict[str, Tensor] | None], dict[str, Tensor]]
"""From calibration samples and the current q̂ to logits {head: (B, S, C)}, in evaluation mode, without gradient."""


class Refresh:
    """Calibration scores of every head, updated by a policy, and their quantiles.

    Each process scores its share of the N `samples` and receives the scores of all others, so q̂ is exact. A refresh
    costs the forward pass of the samples scored and an O(N·S) selection a head; nothing is copied to the host. With the
    batch size B of training, the default slice of ``rolling`` is B / 4.
    """

    def __init__(self, samples: CalibrationShare, config: ConformalConfig, *, batch_size: int, score: Score) -> None:
        self.qhat: dict[str, Tensor] | None = None
        """Quantile of each head, 0-d; None before the first refresh."""
        self.on_full: list[Callable[[], None]] = []
        """Called each time all samples have been scored with the same model."""
        self._samples = samples
        self._config = config
        self._policy, _, interval = config.refresh.partition(":")
        self._interval = int(interval or 1)
        rolling = self._policy == "rolling"
        self._slice = min(config.slice or -(-batch_size // 4), samples.total) if rolling else samples.total
        self._score = score
        self._buffers: dict[str, CalibrationBuffer] = {}
        self._having = {
            m: torch.from_numpy(np.flatnonzero(mask)).to(samples.device) for m, mask in samples.present.items()
        }
        self._steps = 0
        self._next = 0

    def start_epoch(self) -> None:
        """Score all samples if there are no quantiles yet, or if the policy is ``epoch``."""
        if self.qhat is None or self._policy == "epoch":
            self._rescore(0, self._samples.total)

    def after_step(self) -> None:
        """Score the samples that the policy asks for after an optimizer step."""
        self._steps += 1
        for buffer in self._buffers.values():
            buffer.advance()
        if self._policy == "epoch" or self._steps % self._interval:
            return
        self._rescore(self._next, self._slice)
        self._next = (self._next + self._slice) % self._samples.total

    @property
    def staleness(self) -> float:
        """Age of the oldest score in steps; waits for the device."""
        return max((float(buffer.staleness) for buffer in self._buffers.values()), default=0.0)

    def quantiles(self, score: Score) -> dict[str, Tensor]:
        """Return the quantiles of all samples scored by `score`; the stored scores are not changed."""
        scores = self._scores(0, self._samples.total, score)
        return {head: self._quantile(head, values) for head, values in scores.items()}

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
        scores = self._scores(first, count, self._score)
        rows = torch.arange(first, first + count, device=self._samples.device) % self._samples.total
        self.qhat = {head: self._overwrite(head, rows, values) for head, values in scores.items()}
        if count == self._samples.total:
            for callback in self.on_full:
                callback()

    def _scores(self, first: int, count: int, score: Score) -> dict[str, Tensor]:
        """Return the scores (count, S) of the samples `first`, `first` + 1, … (mod N) by head, of all processes."""
        parts = [self._part_scores(batch, score) for batch in self._samples.read(first, count)]
        return {head: self._gather(torch.cat([part[head] for part in parts]), first, count) for head in parts[0]}

    def _part_scores(self, batch: Batch, score: Score) -> dict[str, Tensor]:
        return {head: label_scores(logits, batch.labels) for head, logits in score(batch, self.qhat).items()}

    def _gather(self, mine: Tensor, first: int, count: int) -> Tensor:
        """Return the scores of all processes in order, from those of the samples that this process read."""
        process, ranges = self._samples.process, self._samples.ranges(first, count)
        sizes = [len(process.own(*bounds)) for bounds in ranges]
        parts = torch.split(mine[: sum(sizes)], sizes)
        gathered = [
            process.gather(part, stop - begin, begin) for part, (begin, stop) in zip(parts, ranges, strict=True)
        ]
        return torch.cat(gathered)

    def _overwrite(self, head: str, rows: Tensor, scores: Tensor) -> Tensor:
        """Store the scores (n, S) of `rows` and return the quantile; the S scores of a sample are adjacent."""
        per_sample = scores.shape[1]
        if head not in self._buffers:
            self._buffers[head] = CalibrationBuffer(self._samples.total * per_sample, like=scores)
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
