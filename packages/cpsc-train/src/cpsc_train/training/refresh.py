"""The conformal predictor inside the loop: q̂ of every head, refreshed as the model learns."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from conformal_core import LAC, CalibrationBuffer
from cpsc_train.data import Batch

Score = Callable[[Batch, dict[str, Tensor] | None], dict[str, Tensor]]
"""From calibration samples and the quantiles now to logits {head: (B, S, C)}, in evaluation mode, without gradient."""


class Refresh:
    """Calibration scores of every head, re-scored by a policy, and their quantiles.

    Parameters
    ----------
    samples
        The N calibration samples, on the device of the model and without augmentation.
    alpha
        Miscoverage, in (0, 1).
    policy
        ``exact``, ``rolling``, ``interval:K`` or ``epoch``.
    slice_size
        Samples that ``rolling`` re-scores after each step; a score is at most ⌈N / slice_size⌉ − 1 steps old.
    score
        How samples are scored with the model as it is.

    Notes
    -----
    Cost of a refresh: the forward pass of the samples scored, and an O(N·S) selection a head. Nothing is copied to the
    host.
    """

    def __init__(self, samples: Batch, *, alpha: float, policy: str, slice_size: int, score: Score) -> None:
        self.qhat: dict[str, Tensor] | None = None
        self._samples = samples
        self._alpha = alpha
        self._policy, _, interval = policy.partition(":")
        self._interval = int(interval or 1)
        self._slice = min(slice_size, len(samples)) if self._policy == "rolling" else len(samples)
        self._score = score
        self._buffers: dict[str, CalibrationBuffer] = {}
        self._steps = 0
        self._next = 0

    def start_epoch(self) -> None:
        """Score everything, where there is no quantile yet or the policy asks for it once an epoch."""
        if self.qhat is None or self._policy == "epoch":
            self._rescore(0, len(self._samples))

    def after_step(self) -> None:
        """Follow a step of the optimizer, as the policy says."""
        self._steps += 1
        for buffer in self._buffers.values():
            buffer.advance()
        if self._policy == "epoch" or self._steps % self._interval:
            return
        self._rescore(self._next, self._slice)
        self._next = (self._next + self._slice) % len(self._samples)

    @property
    def staleness(self) -> float:
        """Steps since the oldest score was taken."""
        return max((float(buffer.staleness) for buffer in self._buffers.values()), default=0.0)

    def _rescore(self, first: int, count: int) -> None:
        samples = self._samples
        rows = (torch.arange(first, first + count, device=samples.labels.device)) % len(samples)
        part = samples if count == len(samples) and first == 0 else _take(samples, rows)
        logits = self._score(part, self.qhat)
        self.qhat = {head: self._update(head, rows, part.labels, z) for head, z in logits.items()}

    def _update(self, head: str, rows: Tensor, labels: Tensor, logits: Tensor) -> Tensor:
        """Shapes: logits (B, S, C); the buffer holds the S scores of a sample side by side."""
        per_sample = logits.shape[1]
        scores = LAC()(logits.float().softmax(-1), labels[:, None].expand(-1, per_sample), check=False)
        if head not in self._buffers:
            self._buffers[head] = CalibrationBuffer(len(self._samples) * per_sample, like=scores)
        places = rows[:, None] * per_sample + torch.arange(per_sample, device=rows.device)
        self._buffers[head].overwrite(places.flatten(), scores.flatten(), check=False)
        qhat: Tensor = self._buffers[head].quantile(alpha=self._alpha)
        return qhat


def _take(samples: Batch, rows: Tensor) -> Batch:
    return Batch((), samples.labels[rows], {name: x[rows] for name, x in samples.inputs.items()})
