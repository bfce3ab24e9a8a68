"""Fit of the curves of all modalities by the fused cross-entropy, kept only if cross-validation agrees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from cpsc_rsc._checks import check_tensor
from cpsc_rsc.curve import HeldOutCopy, identity, log_trust

Classify = Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]

FOLDS = 4
CLEAN = 4.0  # weight of the clean copies together; that of a corrupted copy is 1
RIDGE = 0.1
STEPS = 30  # of L-BFGS
START = -1.0  # softplus(START) is the first slope


def fit_curves(copies: Sequence[HeldOutCopy], classify: Classify, modalities: Sequence[str], ridge: float) -> Tensor:
    """Return b and c of each modality, (2, M) in float64; see `ConformalTrust.fit_curve`."""
    problem = _Problem(classify, tuple(modalities), ridge, _groups(copies), len(copies[0].labels))
    if problem.count < 2 * FOLDS or all(copy.clean for copy in copies) or not _is_gain(problem.gains()):
        return identity(len(modalities))
    return problem.fit().cpu()


@dataclass(frozen=True)
class _Rows:
    """Rows of copies with the same modalities, one copy after another."""

    features: dict[str, Tensor]
    distances: dict[str, Tensor]
    present: dict[str, Tensor]
    labels: Tensor
    sample: Tensor  # index of the held-out row
    weight: Tensor

    def where(self, keep: Tensor) -> _Rows:
        return _Rows(
            features={m: h[keep] for m, h in self.features.items()},
            distances={m: distance[keep] for m, distance in self.distances.items()},
            present={m: mask[keep] for m, mask in self.present.items()},
            labels=self.labels[keep],
            sample=self.sample[keep],
            weight=self.weight[keep],
        )


@dataclass(frozen=True)
class _Problem:
    """The fit of all modalities. A common factor exp(t) of the logits is fitted, too, and not used afterwards."""

    classify: Classify
    modalities: tuple[str, ...]
    ridge: float
    groups: list[_Rows]
    count: int  # held-out rows

    def gains(self) -> Tensor:
        """Return how far curves lower the cross-validated loss of each held-out row over all copies, (count,)."""
        gain = self.groups[0].weight.new_zeros(self.count)
        fold_of = torch.randperm(self.count, generator=torch.Generator().manual_seed(0)).to(gain.device) % FOLDS
        for fold in range(FOLDS):
            training = self._of([rows.where(fold_of[rows.sample] != fold) for rows in self.groups])
            test = self._of([rows.where(fold_of[rows.sample] == fold) for rows in self.groups])
            for sign, values in ((1, training.identity()), (-1, training.fit())):
                test.add_losses(gain, values, training.factor(values), sign)
        return gain

    def identity(self) -> Tensor:
        """Return the values at which every weight is 1, (2, M)."""
        return identity(len(self.modalities)).to(self.groups[0].weight.device)

    def fit(self) -> Tensor:
        """Return the values of least loss, (2, M)."""
        start = self.identity()
        penalty = self.ridge * RIDGE / max(1, self.count)
        moves, t = torch.zeros_like(start, requires_grad=True), start.new_zeros((), requires_grad=True)

        def values() -> Tensor:
            return torch.cat([start[:1] + moves[:1], softplus(START + moves[1:])])

        def loss() -> Tensor:
            now = values()
            logits = [t.exp() * self.logits(now, rows) for rows in self.groups]
            return self._mean_loss(logits) + penalty * (now - start).square().sum()

        _minimise([moves, t], loss)
        return values().detach()

    def factor(self, values: Tensor) -> Tensor:
        """Return the best factor exp(t) of the logits at given values."""
        with torch.no_grad():
            logits = [self.logits(values, rows) for rows in self.groups]
        t = values.new_zeros((), requires_grad=True)
        _minimise([t], lambda: self._mean_loss([t.exp() * z for z in logits]))
        return t.detach().exp()

    def add_losses(self, total: Tensor, values: Tensor, factor: Tensor, sign: int) -> None:
        """Add the weighted loss of each held-out row, times a sign, to a total (count,)."""
        with torch.no_grad():
            for rows in self.groups:
                losses = cross_entropy(factor * self.logits(values, rows), rows.labels, reduction="none")
                total.index_add_(0, rows.sample, sign * rows.weight * losses)

    def logits(self, values: Tensor, rows: _Rows) -> Tensor:
        """Return the logits (R, C) of the weighted features."""
        scaled = {}
        for m, (b, slope) in zip(self.modalities, values.T, strict=True):
            if m in rows.features:
                weight = log_trust(rows.distances[m], b, slope).exp()
                scaled[m] = rows.features[m] * weight[:, None].to(rows.features[m].dtype)
        logits = self.classify(scaled, rows.present)
        check_tensor("the output of classify", logits, (len(rows.labels), "C"))
        return logits.double()

    def _mean_loss(self, logits: list[Tensor]) -> Tensor:
        weight = torch.cat([rows.weight for rows in self.groups])
        losses = [cross_entropy(z, rows.labels, reduction="none") for z, rows in zip(logits, self.groups, strict=True)]
        return (weight * torch.cat(losses)).sum() / weight.sum()

    def _of(self, groups: list[_Rows]) -> _Problem:
        samples = torch.cat([rows.sample for rows in groups]).bincount()
        return _Problem(self.classify, self.modalities, self.ridge, groups, int((samples > 0).sum()))


def _groups(copies: Sequence[HeldOutCopy]) -> list[_Rows]:
    """Weight the copies, and join those with the same modalities."""
    clean = CLEAN / sum(copy.clean for copy in copies)
    joined: dict[tuple[str, ...], list[HeldOutCopy]] = {}
    for copy in copies:
        joined.setdefault(tuple(sorted(copy.features)), []).append(copy)
    return [_join(modalities, some, clean) for modalities, some in joined.items()]


def _join(modalities: Sequence[str], copies: Sequence[HeldOutCopy], clean: float) -> _Rows:
    rows, device = len(copies[0].labels), copies[0].labels.device
    everywhere = torch.ones(rows, dtype=torch.bool, device=device)
    masked = [m for m in modalities if any(m in copy.present for copy in copies)]
    weights = torch.tensor([clean if copy.clean else 1.0 for copy in copies], dtype=torch.float64, device=device)
    return _Rows(
        features={m: torch.cat([c.features[m].detach() for c in copies]).nan_to_num(0, 0, 0) for m in modalities},
        distances={m: torch.cat([c.distances[m].detach() for c in copies]).double() for m in modalities},
        present={m: torch.cat([c.present.get(m, everywhere) for c in copies]) for m in masked},
        labels=torch.cat([c.labels for c in copies]).long(),
        sample=torch.arange(rows, device=device).repeat(len(copies)),
        weight=weights.repeat_interleave(rows),
    )


def _minimise(parameters: list[Tensor], loss: Callable[[], Tensor]) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=STEPS, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def closure() -> float:
        with torch.enable_grad():
            value = loss()
        gradients = torch.autograd.grad(value, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return float(value.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def _is_gain(gain: Tensor) -> bool:
    """Whether the mean gain is more than a standard error above 0."""
    return bool(gain.mean() > gain.std() / math.sqrt(len(gain)))
