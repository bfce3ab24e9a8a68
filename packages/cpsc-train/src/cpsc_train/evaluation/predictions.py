"""Predictions for the rows of a part of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Metric = Callable[[NDArray[np.float64], NDArray[np.int64]], float]


@dataclass(frozen=True)
class Predictions:
    """Predictions for the N rows of a part."""

    labels: NDArray[np.int64]
    """(N,) true classes, −1 if unknown."""
    probabilities: dict[str, NDArray[np.float64]]
    """By head (each modality present, and ``fused``), (N, C) float64."""
    weights: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """By modality, (N,) weights of an inference variant in [0, 1]; empty if it has none, and without a variant."""
    typicality: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """By modality, (N,) in [0, 1], 1 if nothing is unusual: what the thresholds of prediction sets depend on. Empty if
    the variant has none."""
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """By modality, (N, d) features."""
    present: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """By head, true for the rows used in its figures, (N,): those that have its modality. A head that is not listed
    uses all rows."""
    depths: dict[str, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)
    """By modality, activations (N, d_k) at several depths of its encoder, where they were asked for."""
    absent: tuple[str, ...] = ()
    """Modalities that were left out of all rows."""

    def each(self, metric: Metric) -> dict[str, float]:
        """Return a metric by head."""
        return {head: metric(*self.of(head)) for head in self.probabilities}

    def of(self, head: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return probabilities (n, C) and labels (n,) of a head, of the rows that have its modality."""
        rows = self.rows(head)
        return self.probabilities[head][rows], self.labels[rows]

    def rows(self, head: str) -> NDArray[np.bool_]:
        """Return which rows the figures of a head are over, (N,)."""
        return self.present.get(head, np.ones(len(self.labels), np.bool_))

    def lacking(self, head: str) -> dict[tuple[str, ...], NDArray[np.bool_]]:
        """Return the rows of a head by the modalities that they lack, {modalities: (N,) bool}, with at least one row.

        The head of a single modality has one entry: the others do not matter. Modalities are in alphabetical order.
        """
        rows = self.rows(head)
        masks = {m: mask for m, mask in self.present.items() if m in self.features}
        if head in self.features or not masks:
            return {tuple(sorted(self.absent)): rows} if rows.any() else {}
        table = np.stack(list(masks.values()), 1)
        found = {}
        for having in np.unique(table[rows], axis=0):
            lacks = {m for m, has in zip(masks, having, strict=True) if not has}
            found[tuple(sorted(lacks.union(self.absent)))] = rows & (table == having).all(1)
        return found
