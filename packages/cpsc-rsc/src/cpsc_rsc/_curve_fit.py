"""Fit of the scales and curves of all modalities by the fused cross-entropy, kept only if cross-validation agrees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from cpsc_rsc.curve import HeldOutCopy, identity, log_trust

Classify = Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]

FOLDS = 4
CLEAN = 4.0  # weight of the clean copies together; that of a corrupted copy is 1
RIDGE = (1.0, 0.1, 0.1)  # of a, b and c
STEPS = 30  # of L-BFGS
START = -1.0  # softplus(START) is the first slope


def fit_curves(copies: Sequence[HeldOutCopy], classify: Classify, modalities: Sequence[str], ridge: float) -> Tensor:
    """Return a, b and c of each modality, (3, M) in float64; see `ConformalTrust.fit_curve`."""
    problem = _Problem(classify, tuple(modalities), ridge, _groups(copies), len(copies[0].labels))
    fit: Fit = _Problem.identity
    if problem.count < 2 * FOLDS:
        return fit(problem).cpu()
    if not all(copy.clean for copy in copies):
        gain, _ = problem.gains(_Problem.curves, fit)
        fit = _Problem.curves if _is_clear(gain) else fit
    gain, clean = problem.gains(_Problem.scales_and_curves, fit)
    fit = _Problem.scales_and_curves if _is_clear(clean) and gain.mean() > 0 else fit
    return fit(problem).cpu()


@dataclass(frozen=True)
class _Rows:
    """Rows of copies with the same modalities, one copy after another."""

    features: dict[str, Tensor]
    distances: dict[str, Tensor]
    present: dict[str, Tensor]
    labels: Tensor
    sample: Tensor  # index of the held-out row
    weight: Tensor
    clean: Tensor

    def where(self, keep: Tensor) -> _Rows:
        return _Rows(
            features={m: h[keep] for m, h in self.features.items()},
            distances={m: distance[keep] for m, distance in self.distances.items()},
            present={m: mask[keep] for m, mask in self.present.items()},
            labels=self.labels[keep],
            sample=self.sample[keep],
            weight=self.weight[keep],
            clean=self.clean[keep],
        )


@dataclass(frozen=True)
class _Problem:
    """The fit of all modalities, with a factor exp(t) of the logits, so that scales measure relative worth only."""

    classify: Classify
    modalities: tuple[str, ...]
    ridge: float
    groups: list[_Rows]
    count: int  # held-out rows

    def gains(self, fit: Fit, other: Fit) -> tuple[Tensor, Tensor]:
        """Return how far the cross-validated loss of each held-out row is below that of another fit, (count,).

        The first is over all copies, the second over clean ones.
        """
        gain, clean = (self.groups[0].weight.new_zeros(self.count) for _ in range(2))
        fold_of = torch.randperm(self.count, generator=torch.Generator().manual_seed(0)).to(gain.device) % FOLDS
        for fold in range(FOLDS):
            training = self._of([rows.where(fold_of[rows.sample] != fold) for rows in self.groups])
            test = self._of([rows.where(fold_of[rows.sample] == fold) for rows in self.groups])
            for sign, values in ((1, other(training)), (-1, fit(training))):
                test.add_losses(gain, values, training.factor(values), sign)
                test.only_clean().add_losses(clean, values, training.only_clean().factor(values), sign)
        return gain, clean

    def identity(self) -> Tensor:
        """Return the values at which every weight is 1, (3, M)."""
        return identity(len(self.modalities)).to(self.groups[0].weight.device)

    def curves(self) -> Tensor:
        """Return the values of least loss with a = 0, (3, M)."""
        return self._fit(scales=False)

    def scales_and_curves(self) -> Tensor:
        """Return the values of least loss, (3, M)."""
        return self._fit(scales=True)

    def _fit(self, *, scales: bool) -> Tensor:
        start = self.identity()
        free = start.new_tensor([float(scales), 1.0])[:, None]
        penalties = self.ridge / max(1, self.count) * start.new_tensor(RIDGE)[:, None]
        moves, t = torch.zeros_like(start, requires_grad=True), start.new_zeros((), requires_grad=True)

        def values() -> Tensor:
            return torch.cat([start[:2] + free * moves[:2], softplus(START + moves[2:])])

        def loss() -> Tensor:
            now = values()
            logits = [t.exp() * self.logits(now, rows) for rows in self.groups]
            return self._mean_loss(logits) + (penalties * (now - start).square()).sum()

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
        for m, (a, b, slope) in zip(self.modalities, values.T, strict=True):
            if m in rows.features:
                weight = (a + log_trust(rows.distances[m], b, slope)).exp()
                scaled[m] = rows.features[m] * weight[:, None].to(rows.features[m].dtype)
        return self.classify(scaled, rows.present).double()

    def only_clean(self) -> _Problem:
        return self._of([rows.where(rows.clean) for rows in self.groups if rows.clean.any()])

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
        clean=torch.tensor([c.clean for c in copies], device=device).repeat_interleave(rows),
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


def _is_clear(gain: Tensor) -> bool:
    """Whether the mean gain is more than two standard errors above 0."""
    return bool(gain.mean() > 2 * gain.std() / math.sqrt(len(gain)))


Fit = Callable[[_Problem], Tensor]
