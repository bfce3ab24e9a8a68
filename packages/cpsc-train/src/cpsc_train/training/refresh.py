"""The conformal predictor inside the loop: q̂ of every head, refreshed as the model learns.

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
"""From calibration samples and the quantiles now to logits {head: (B, S, C)}, in evaluation mode, without gradient."""


class Refresh:
    """Calibration scores of every head, re-scored by a policy, and their quantiles.

    Parameters
    ----------
    samples
        The N calibration samples, on the device of the model and without augmentation.
    config
        Miscoverage and policy.
    batch_size
        That of training: four times as many samples are scored at once at most, and a quarter of it is what ``rolling``
        re-scores after a step unless ``config`` says otherwise.
    score
        How samples are scored with the model as it is.
    process
        With several processes each scores its share of the samples, and all hold the scores of all: q̂ is exact.

    Notes
    -----
    Cost of a refresh: the forward pass of the samples scored, and an O(N·S) selection a head. Nothing is copied to the
    host.
    """

    def __init__(
        self, samples: Batch, config: ConformalConfig, *, batch_size: int, score: Score, process: Process | None = None
    ) -> None:
        self.qhat: dict[str, Tensor] | None = None
        self.on_full: list[Callable[[], None]] = []
        """Called each time that all samples have been scored with one and the same model."""
        self._samples = samples
        self._config = config
        self._policy, _, interval = config.refresh.partition(":")
        self._interval = int(interval or 1)
        whole = self._policy != "rolling"
        self._slice = len(samples) if whole else min(config.slice or -(-batch_size // 4), len(samples))
        self._most = 4 * batch_size
        self._score = score
        self._process = process or Process()
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
        """Steps since the oldest score was taken; looks at the device."""
        return max((float(buffer.staleness) for buffer in self._buffers.values()), default=0.0)

    def quantiles(self, score: Score) -> dict[str, Tensor]:
        """Return what q̂ would be if all samples were scored by `score`; the buffers stay as they are."""
        every = torch.arange(len(self._samples), device=self._samples.labels.device)
        scores = self._scores(every, score, self.qhat)
        return {head: self._quantile(values.flatten()) for head, values in scores.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return scores, ages, quantiles and the position of the next slice."""
        buffers = {head: buffer.state_dict() for head, buffer in self._buffers.items()}
        return {"buffers": buffers, "qhat": self.qhat, "steps": self._steps, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for head, saved in state["buffers"].items():
            self._buffers[head] = CalibrationBuffer(len(saved["scores"]), like=saved["scores"])
            self._buffers[head].load_state_dict(saved)
        self.qhat, self._steps, self._next = state["qhat"], state["steps"], state["next"]

    def _rescore(self, first: int, count: int) -> None:
        rows = torch.arange(first, first + count, device=self._samples.labels.device) % len(self._samples)
        scores = self._scores(rows, self._score, self.qhat)
        self.qhat = {head: self._overwrite(head, rows, values) for head, values in scores.items()}
        if count == len(self._samples):
            for follow in self.on_full:
                follow()

    def _scores(self, rows: Tensor, score: Score, qhat: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the scores (n, S) of `rows` by head; this process's share is scored, and the rest is heard of."""
        mine = rows
        if self._process.world > 1:
            share = -(-len(rows) // self._process.world)  # as many on each, so that nobody waits for one without rows
            places = self._process.rank + self._process.world * torch.arange(share, device=rows.device)
            mine = rows[places % len(rows)]
        parts = [self._of(part, score, qhat) for part in torch.split(mine, self._most)]
        return {head: self._process.gather(torch.cat([p[head] for p in parts]), len(rows)) for head in parts[0]}

    def _of(self, rows: Tensor, score: Score, qhat: dict[str, Tensor] | None) -> dict[str, Tensor]:
        samples = self._samples
        inputs = {name: x[rows] for name, x in samples.inputs.items()}
        part = Batch((), samples.labels[rows], inputs, samples.rows[rows])
        scores = {}
        for head, logits in score(part, qhat).items():
            labels = part.labels[:, None].expand(logits.shape[:2])
            scores[head] = LAC()(logits.float().softmax(-1), labels, check=False)
        return scores

    def _overwrite(self, head: str, rows: Tensor, scores: Tensor) -> Tensor:
        """Put scores (n, S) where they belong; the buffer holds the S scores of a sample side by side."""
        per_sample = scores.shape[1]
        if head not in self._buffers:
            self._buffers[head] = CalibrationBuffer(len(self._samples) * per_sample, like=scores)
        places = rows[:, None] * per_sample + torch.arange(per_sample, device=rows.device)
        buffer = self._buffers[head]
        buffer.overwrite(places.flatten(), scores.flatten(), check=False)
        return self._quantile(buffer.scores)

    def _quantile(self, scores: Tensor) -> Tensor:
        if self._config.quantile == "exact":
            qhat: Tensor = conformal_quantile(scores, alpha=self._config.alpha, check=False)
            return qhat
        n = len(scores)
        return scores.sort().values[min(math.ceil((1 - Fraction(str(self._config.alpha))) * n), n - 1)]
