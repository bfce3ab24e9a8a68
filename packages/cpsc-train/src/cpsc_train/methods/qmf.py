"""QMF: logits weighted by the energy of each modality, trained to rank samples by their past losses.

Source: Zhang et al., *Provable Dynamic Fusion for Low-Quality Multimodal Data*, ICML 2023; the ranking of Moon et al.,
*Confidence-Aware Learning for Deep Neural Networks*, ICML 2020, equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.methods.base import AllReduce, Heads, Method, Quantiles, StepLosses, head_cross_entropy
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.methods.rows import RowTable
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, fill_absent, mean_present, only_present

ENERGY = 0.1
"""Factor of the logarithm of the sum of exponentials."""
Margin = Literal["paper", "released"]
"""Sign of the margin of the ranking."""


class QMF(Method):
    """Cross-entropies, and a ranking between neighbours of a batch.

    Every modality stores the sum of each sample's losses. Of two neighbours, the one with the larger sum, scaled to
    [0, 1] over all samples, should have the smaller confidence, by a margin of the difference. Fusion weights have no
    gradient. Neighbours are those in a process's part of the batch. A step costs O(B log N) beside the model. The sum
    of a sample that lacks the modality is infinite, and no extreme.
    """

    config: QMFConfig
    static_graph = True
    _largest: Tensor

    def __init__(self, config: QMFConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self._losses: Tensor | None = None
        self.history = RowTable(torch.zeros(len(modalities), 1))
        self._find_extremes()

    def on_fit_start(self, rows: int) -> None:
        """Allocate the history of the training rows."""
        self.history = RowTable(torch.zeros(len(self.history.values), rows))
        self._find_extremes()

    def on_epoch_start(self, epoch: int, all_reduce: AllReduce) -> None:
        """Find the extremes of the history, which may have been loaded or moved."""
        self._find_extremes()

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_<head>`` and ``ranking_<modality>``."""
        logits = self.predict(model, features, qhat, present)
        terms = {f"ce_{head}": head_cross_entropy(z, labels, present.get(head)) for head, z in logits.items()}
        hard = normalised(self.history.values[:, self.rows], self._smallest.values, self._largest)
        for place, m in enumerate(features):
            ranking = ranking_loss(energy(logits[m]), hard[place], present.get(m), margin=self.config.margin)
            terms[f"ranking_{m}"] = self.config.ranking * ranking
        with torch.no_grad():
            each = [
                fill_absent(cross_entropy(logits[m], labels, reduction="none"), present.get(m), torch.inf)
                for m in features
            ]
            self._losses = torch.stack(each, 1).to(self.history.values.dtype)
        return StepLosses(terms, logits)

    def notes(self) -> Tensor | None:
        """Return the losses of the batch, (B, M)."""
        return self._losses

    def remember(self, rows: Tensor, notes: Tensor) -> None:
        """Add the losses of a step to the history."""
        self.history.values.index_add_(1, rows, notes.T)
        self._smallest.update(rows)
        self._largest = torch.maximum(self._largest, _largest(self.history.values[:, rows]))

    def _find_extremes(self) -> None:
        self._smallest = Smallest(self.history.values)
        self._largest = _largest(self.history.values)

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return logits, and for ``fused`` Σ_m c_m z_m over the given modalities."""
        logits = model.unimodal(features, present)
        weighted = [energy(z).detach()[:, None] * z for z in logits.values()]
        return logits | {FUSED: torch.stack(weighted).sum(0)}


@dataclass(frozen=True, kw_only=True)
class QMFConfig(MethodConfig, name="qmf"):
    """Quality-aware multimodal fusion: logits weighted by energy; the model's fusion is unused."""

    source = "Zhang et al., Provable Dynamic Fusion for Low-Quality Multimodal Data, ICML 2023"
    method = QMF
    rules = {"ranking": NOT_NEGATIVE}
    search = {"ranking": Range(0.01, 2.0, log=True), "margin": ("paper", "released")}

    ranking: float = 0.1
    """Weight λ of the ranking; the source has 0.1 for NYU Depth V2 and 1 for SUN RGB-D."""
    margin: Margin = "paper"
    """``paper``: the confidence of the sample with the larger losses must be smaller by the difference of the losses,
    equation 3 of the ranking's source; ``released``: it may be larger by as much, as in the authors' code."""


def energy(logits: Tensor) -> Tensor:
    """Return the confidence .1 log Σ exp z, (B,), of logits (B, C)."""
    return ENERGY * logits.logsumexp(-1)


def normalised(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return values (M, B) scaled from [low, high], (M,) each, to [0, 1]; 0 if low = high.

    Examples
    --------
    >>> normalised(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2), torch.tensor([4.0, 0.0])).tolist()
    [[0.25, 0.5], [0.0, 0.0]]
    """
    low, span = low[:, None], (high - low)[:, None]
    return torch.where(span > 0, (values - low) / span.clamp(min=torch.finfo(span.dtype).tiny), 0.0)


def ranking_loss(
    confidence: Tensor, hard: Tensor, present: Tensor | None = None, *, margin: Margin = "paper"
) -> Tensor:
    """Return the mean of max(0, s(c_i − c_j) ± |h_i − h_j|) over neighbours; the last neighbours the first.

    Of neighbours, both must be `present` (B,) to count.

    s = sign(h_i − h_j). `confidence` c is (B,); `hard` h in [0, 1], (B,), has no gradient. The sign is + for the margin
    of the ``paper``, and − for the ``released`` one.

    Examples
    --------
    >>> confidence, hard = torch.tensor([0.5, 0.2]), torch.tensor([1.0, 0.9])
    >>> ranking_loss(confidence, hard), ranking_loss(confidence, hard, margin="released")
    (tensor(0.4000), tensor(0.2000))
    """
    hard = only_present(hard, present)
    other, apart = confidence.roll(-1), hard - hard.roll(-1)
    required = apart.abs() if margin == "paper" else -apart.abs()
    losses = (apart.sign() * (confidence - other) + required).clamp(min=0)
    return mean_present(losses, None if present is None else present & present.roll(-1))


def _largest(history: Tensor) -> Tensor:
    """Return the largest finite value of each modality, (M,), of its sums of losses (M, N)."""
    return torch.where(history.isfinite(), history, 0.0).amax(1)


FAN = 64
"""Values under one node of the tree."""


class Smallest:
    """A tree of minima over the columns of a table: every node holds the minimum of up to `FAN` nodes below it.

    The caller changes the table (M, N), N at least 1, and then calls `update`.

    Notes
    -----
    Cost: O(M N) to build, O(M B log N) for B columns, without waiting for a device.

    Examples
    --------
    >>> table = torch.arange(200.0)[None] + 1
    >>> smallest = Smallest(table)
    >>> table[0, 0] = 7.0
    >>> smallest.update(torch.tensor([0]))
    >>> smallest.values
    tensor([2.])
    """

    def __init__(self, table: Tensor) -> None:
        self._levels = [table]
        while self._levels[-1].shape[1] > 1:
            below = self._levels[-1]
            nodes = torch.arange(-(-below.shape[1] // FAN), device=table.device)
            self._levels.append(_under(below, nodes))

    @property
    def values(self) -> Tensor:
        """Minimum of each row, (M,)."""
        return self._levels[-1][:, 0]

    def update(self, columns: Tensor) -> None:
        """Update the minima after a change of some columns, (B,)."""
        nodes = columns
        for below, level in zip(self._levels[:-1], self._levels[1:], strict=True):
            nodes = nodes // FAN
            level[:, nodes] = _under(below, nodes)


def _under(level: Tensor, nodes: Tensor) -> Tensor:
    """Return the minimum (M, B) below each node (B,) of the next level."""
    first = nodes[:, None] * FAN
    members = (first + torch.arange(FAN, device=level.device)).clamp(max=level.shape[1] - 1)
    return level[:, members].amin(-1)
