"""Thresholds of prediction sets as tensors, so that they can be exported with a model.

Shapes: B samples, M modalities, C classes, P patterns of missing modalities, K bins of a pattern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

INFINITY = float("inf")


class PredictionSets(nn.Module):
    """Prediction sets by the modalities that a sample has, and how typical they are.

    These are the sets of `cpsc_train.evaluation.Thresholds`; samples of a pattern without a threshold get full sets.

    - `thresholds`: what `Thresholds.state_dict` returned; a threshold that is None is infinite and makes full sets.
    - `modalities`: their names, in order.
    """

    absent: Tensor
    full: Tensor
    other: Tensor
    least: Tensor
    high: Tensor
    qhat: Tensor

    def __init__(self, thresholds: Mapping[str, Any], modalities: Sequence[str]) -> None:
        super().__init__()
        patterns = thresholds["patterns"]
        bins = [_bins(one, modalities) for one in patterns] + [[]]
        most = max(1, *map(len, bins))
        rows = [[*of, *[(-1, 0.0, INFINITY)] * (most - len(of))] for of in bins]
        absent = [[m in one["absent"] for m in modalities] for one in patterns]
        other = [_finite(one["full"] if one["bins"] is None else one["bins"]["other"]) for one in patterns]
        tables = {
            "absent": torch.tensor(absent),
            "full": torch.tensor([*(_finite(one["full"]) for one in patterns), INFINITY], dtype=torch.float64),
            "other": torch.tensor([*other, INFINITY], dtype=torch.float64),
            "least": torch.tensor([[one[0] for one in row] for row in rows]),
            "high": torch.tensor([[one[1] for one in row] for row in rows], dtype=torch.float64),
            "qhat": torch.tensor([[one[2] for one in row] for row in rows], dtype=torch.float64),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, probabilities: Tensor, present: Tensor, typicality: Tensor | None = None) -> Tensor:
        """Return which classes are in the prediction set of each sample, (B, C) bool.

        - `probabilities`: (B, C) float64.
        - `present`: True for modalities that a sample has, (B, M) bool.
        - `typicality`: how typical the modalities are, (B, M) float64 in [0, 1]; None if the thresholds do not depend
          on it.
        """
        pattern = _first((~present[:, None] == self.absent).all(-1))
        threshold = self.full[pattern]
        unusual = torch.zeros_like(threshold, dtype=torch.bool)
        if typicality is not None:
            unusual = (present & (typicality < 1)).any(-1)
            threshold = torch.where(unusual, self._of_unusual(pattern, present, typicality), threshold)
        inside = 1 - probabilities <= threshold[:, None]  # the score LAC
        classes = torch.arange(probabilities.shape[1], device=probabilities.device)
        most_probable = probabilities.argmax(-1, keepdim=True) == classes
        return inside | (unusual[:, None] & ~inside.any(-1, keepdim=True) & most_probable)

    def _of_unusual(self, pattern: Tensor, present: Tensor, typicality: Tensor) -> Tensor:
        """Return the thresholds (B,) of samples in which a modality is unusual."""
        least = typicality.masked_fill(~present, 2.0).argmin(-1)
        mean = (typicality * present).sum(-1) / present.sum(-1).clamp(min=1)
        place = _first((self.least[pattern] == least[:, None]) & (mean[:, None] <= self.high[pattern]))
        qhats = torch.cat([self.qhat[pattern], self.other[pattern][:, None]], -1)
        return qhats.gather(-1, place[:, None])[:, 0]


def _first(matches: Tensor) -> Tensor:
    """Return the place of the first match in each row (B, n), (B,); n if there is none."""
    places = torch.arange(matches.shape[1], 0, -1, device=matches.device)
    return matches.shape[1] - (matches * places).amax(-1)


def _bins(pattern: Mapping[str, Any], modalities: Sequence[str]) -> list[tuple[int, float, float]]:
    """Return the least typical modality, the largest mean typicality and the threshold of each bin.

    The last bin of a modality has no largest mean.
    """
    if pattern["bins"] is None:
        return []
    names = [m for m in modalities if m not in pattern["absent"]]
    bins = pattern["bins"]["bins"]
    last = {one["least"]: place for place, one in enumerate(bins)}
    return [
        (
            list(modalities).index(names[one["least"]]),
            INFINITY if last[one["least"]] == place else one["high"],
            _finite(one["qhat"]),
        )
        for place, one in enumerate(bins)
    ]


def _finite(threshold: float | None) -> float:
    return INFINITY if threshold is None else threshold
