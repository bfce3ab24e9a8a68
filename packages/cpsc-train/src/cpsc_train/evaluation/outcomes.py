"""What figures and thresholds need of the predictions for all rows of a part: a few numbers a row.

Shapes: N rows of a part, n of which this process holds, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.evaluation.probabilities import Probabilities, row_parts


@dataclass(frozen=True)
class Outcome:
    """Predicted classes of N rows, and two of their probabilities."""

    labels: NDArray[np.int64]
    """(N,) true classes, −1 if unknown."""
    predicted: NDArray[np.int64]
    """(N,) most probable classes, the first of several."""
    confidence: NDArray[np.float64]
    """(N,) their probabilities."""
    true: NDArray[np.float64]
    """(N,) probabilities of the true classes; any value for unknown ones."""

    @classmethod
    def of(cls, probabilities: Probabilities, labels: NDArray[np.int64]) -> Outcome:
        """Return the outcome of probabilities (n, C) for labels (n,).

        Examples
        --------
        >>> Outcome.of(np.array([[0.7, 0.3], [0.6, 0.4]]), np.array([0, 1])).true.tolist()
        [0.7, 0.4]
        """
        predicted = np.empty(len(labels), np.int64)
        confidence, true = np.empty(len(labels)), np.empty(len(labels))
        for rows in row_parts(*probabilities.shape):
            p = probabilities[rows]
            predicted[rows], confidence[rows] = p.argmax(1), p.max(1)
            true[rows] = p[np.arange(len(p)), labels[rows]]
        return cls(labels, predicted, confidence, true)

    def map(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Outcome:
        """Return the outcome with `change` applied to each array."""
        return Outcome(change(self.labels), change(self.predicted), change(self.confidence), change(self.true))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the most probable class is the true one, (N,)."""
        return np.equal(self.predicted, self.labels)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Nonconformity scores (LAC) of the true classes, (N,)."""
        return 1 - self.true


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of all N rows of a part, the same in every process; the fields are those of `Predictions`."""

    heads: dict[str, Outcome]
    """By head."""
    labels: NDArray[np.int64]
    weights: dict[str, NDArray[np.float64]]
    typicality: dict[str, NDArray[np.float64]]
    present: dict[str, NDArray[np.bool_]]
    modalities: tuple[str, ...]
    """Modalities that were used."""
    absent: tuple[str, ...]

    def each(self, metric: Callable[[Outcome], float]) -> dict[str, float]:
        """Return a metric by head."""
        return {head: metric(self.of(head)) for head in self.heads}

    def of(self, head: str) -> Outcome:
        """Return the outcome of a head on the rows that have its modality."""
        rows = self.rows(head)
        return self.heads[head].map(lambda values: values[rows])

    def rows(self, head: str) -> NDArray[np.bool_]:
        """Return which rows the figures of a head are over, (N,)."""
        return self.present.get(head, np.ones(len(self.labels), np.bool_))

    def lacking(self, head: str) -> dict[tuple[str, ...], NDArray[np.bool_]]:
        """Return the rows of a head by the modalities that they lack, {modalities: (N,) bool}, with at least one row.

        The head of a single modality has one entry: the others do not matter. Modalities are in alphabetical order.
        """
        rows = self.rows(head)
        masks = {m: mask for m, mask in self.present.items() if m in self.modalities}
        if head in self.modalities or not masks:
            return {tuple(sorted(self.absent)): rows} if rows.any() else {}
        table = np.stack(list(masks.values()), 1)
        found = {}
        for having in np.unique(table[rows], axis=0):
            lacks = {m for m, has in zip(masks, having, strict=True) if not has}
            found[tuple(sorted(lacks.union(self.absent)))] = rows & (table == having).all(1)
        return found
