"""Predictions for the rows of a part of the data that this process holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cpsc_train.evaluation.metrics import average_precision
from cpsc_train.evaluation.outcomes import Outcome, Outcomes
from cpsc_train.evaluation.probabilities import Probabilities
from cpsc_train.evaluation.share import ALL, Share

RANKED = 2**20
"""Most probabilities that a process ranks at once, at least those of one class: 8 MiB, and copies in transit."""
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Predictions:
    """Predictions for n of the N rows of a part: all of them, or the share of one process."""

    labels: NDArray[np.int64]
    """(n,) true classes, −1 if unknown."""
    probabilities: Mapping[str, Probabilities]
    """By head (each modality present, and ``fused``), (n, C) float64."""
    weights: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """By modality, (n,) weights of an inference variant in [0, 1]; empty if it has none, and without a variant."""
    typicality: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """By modality, (n,) in [0, 1], 1 if nothing is unusual: what the thresholds of prediction sets depend on. Empty if
    the variant has none."""
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """By modality, (n, d) features."""
    present: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """By head, true for the rows used in its figures, (n,): those that have its modality. A head that is not listed
    uses all rows."""
    depths: dict[str, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)
    """By modality, activations (n, d_k) at several depths of its encoder, where they were asked for."""
    absent: tuple[str, ...] = ()
    """Modalities that were left out of all rows."""
    share: Share = ALL
    """The rows that are held, of all N."""

    @property
    def outcomes(self) -> Outcomes:
        """The outcomes of all N rows, computed once; every process must ask for them."""
        kept: dict[str, Outcomes] = self.__dict__  # `cached_property` of Python 3.11 locks the others out meanwhile
        if "_outcomes" not in kept:
            kept["_outcomes"] = self._all_outcomes()
        return kept["_outcomes"]

    def _all_outcomes(self) -> Outcomes:
        gather = self.share.gather
        labels = gather(self.labels)
        heads = {head: Outcome.of(p, self.labels).map(gather) for head, p in self.probabilities.items()}
        weights, typicality = self._gathered(self.weights), self._gathered(self.typicality)
        return Outcomes(
            heads, labels, weights, typicality, self._gathered(self.present), tuple(self.features), self.absent
        )

    def mean_average_precision(self, head: str) -> float:
        """Return the mean average precision of one class against the rest, over the classes that occur.

        Each process ranks the N probabilities of an equal number of classes, some classes at a time. Cost: O(N log N)
        a class. Every process must call this.
        """
        share, probabilities = self.share, self.probabilities[head]
        rows, labels = self.outcomes.rows(head), self.outcomes.labels
        classes = np.unique(labels[rows])
        width = max(1, min(RANKED // len(labels), -(-len(classes) // share.world)))
        blocks = [classes[start : start + width] for start in range(0, len(classes), width)]
        most = -(-len(labels) // share.world)
        found = np.zeros(len(classes))
        for first in range(0, len(blocks), share.world):
            taken = [
                share.gather_to(rank, probabilities[:, block], 0, most)
                for rank, block in enumerate(blocks[first : first + share.world])
            ]
            for block, columns in zip(blocks[first:], taken, strict=False):
                if columns is not None:
                    places = np.searchsorted(classes, block)
                    found[places] = [
                        average_precision(column[rows], labels[rows] == one)
                        for column, one in zip(columns.T, block, strict=True)
                    ]
        return float(share.sum(found).mean())

    def _gathered(self, values: Mapping[str, NDArray[Scalar]]) -> dict[str, NDArray[Scalar]]:
        return {name: self.share.gather(value) for name, value in values.items()}
