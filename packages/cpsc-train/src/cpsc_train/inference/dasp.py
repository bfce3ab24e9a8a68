"""The redundancy rule of DASP: a modality whose features have become correlated is taken to be corrupted.

Source: He et al., *Decoupling Stability and Plasticity for Multi-Modal Test-Time Adaptation*, CVPR 2026, and its
released code. Only its diagnosis is used: the adapters of the source need a model built with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cpsc_train.config.choice import COUNT, NOT_NEGATIVE, Rule
from cpsc_train.inference.base import NO_DEPTHS, Depths, Inference, InferenceConfig, Source
from cpsc_train.methods.base import Heads
from cpsc_train.models import COMPLETE, Present


class DASP(Inference):
    """Scale the features of modalities whose redundancy rose, batch by batch.

    r_m is `redundancy` of a batch, and e_m = r_m − its mean over batches of clean calibration rows: unlike in the
    source, modalities do not share a space in which r_m could be compared directly. A modality with
    e_m − min_k e_k > δ and e_m > 0 is taken to be corrupted. With two modalities and equal calibration values this is
    the rule of the source, |r_a − r_b| > δ, and the larger r is the corrupted one.
    """

    config: DASPConfig

    def fit(self, source: Source) -> None:
        """Store the redundancy of the clean calibration rows."""
        calibration = source.part("calibration")
        self._clean = {}
        for m in calibration.features:
            h = torch.from_numpy(calibration.of(m)[0])
            values = [self._redundancy(h[rows]) for rows in self._blocks(len(h))]
            self._clean[m] = float(torch.stack(values).mean())

    def predict(self, features: Heads, present: Present = COMPLETE, depths: Depths = NO_DEPTHS) -> tuple[Heads, Heads]:
        """Return the logits of the scaled features, and the weights."""
        first = next(iter(features.values()))
        weights = {m: first.new_ones(len(first)) for m in features}
        for block in self._blocks(len(first)):
            rows = block.to(first.device)
            having = {m: rows[present[m][rows]] if m in present else rows for m in features}
            excess = {m: float(self._redundancy(h[having[m]])) - self._clean[m] for m, h in features.items()}
            limit = max(0.0, min(excess.values()) + self.config.delta)
            for m, value in excess.items():
                if value > limit:
                    weights[m][rows] = self.config.weight
        scaled = {m: h * weights[m][:, None] for m, h in features.items()}
        return self.trained.logits(scaled, present), weights

    def _blocks(self, rows: int) -> tuple[Tensor, ...]:
        """Return the rows of each batch in random order; batches differ by at most one row, since r depends on size."""
        return self.trained.order(rows).tensor_split(max(1, rows // self.config.batch_size))

    def _redundancy(self, features: Tensor) -> Tensor:
        return redundancy(features, floor=self.config.floor)


@dataclass(frozen=True, kw_only=True)
class DASPConfig(InferenceConfig, name="dasp"):
    """Redundancy rule of DASP: down-weights modalities whose features became more correlated than on clean rows."""

    inference = DASP
    source = "He et al., Decoupling Stability and Plasticity for Multi-Modal Test-Time Adaptation, CVPR 2026"
    rules = {
        "delta": NOT_NEGATIVE,
        "batch_size": COUNT,
        "floor": NOT_NEGATIVE,
        "weight": Rule("must lie in [0, 1]", lambda value: 0 <= value <= 1),
    }

    delta: float = 0.05
    """Difference δ in redundancy above which a modality is taken to be corrupted."""
    weight: float = 0.25
    """Weight of the features of a corrupted modality; 0 leaves it out. Chosen on validation rows of handwritten: a
    modality that is detected as corrupted is often still useful."""
    batch_size: int = 64
    """Rows over which redundancy is measured."""
    floor: float = 0.05
    """Dimensions with a standard deviation of at most this fraction of the largest are left out."""


def redundancy(features: Tensor, *, floor: float = 0.05) -> Tensor:
    """Return the root mean square of the off-diagonal cosines between the dimensions of features (B, d), 0-d.

    As in the released code, columns are scaled to unit length without being centred, and those whose standard
    deviation is at most `floor` times the largest are left out. Fewer than two columns give 0.

    Examples
    --------
    >>> round(float(redundancy(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]))), 4)  # proportional columns
    1.0
    >>> round(float(redundancy(torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]))), 4)
    0.0
    """
    if not len(features):
        return features.new_zeros(())
    h = features.float()
    deviation = h.std(0, correction=0)
    h = h[:, deviation > floor * deviation.max()]
    width = h.shape[1]
    if width < 2:
        return features.new_zeros(())
    unit = torch.nn.functional.normalize(h, dim=0)
    squares = (unit.T @ unit).square()
    return ((squares.sum() - squares.diagonal().sum()) / (width * (width - 1))).clamp_min(0).sqrt()
