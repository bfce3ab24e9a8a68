"""Predictions for new samples, with classes by name.

Shapes: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """Prediction for one sample."""

    label: str
    """Name of the most probable class."""
    probabilities: dict[str, float]
    """Probability of each class by name."""
    prediction_set: tuple[str, ...]
    """Names of the classes in the prediction set, the most probable first."""
    trust: dict[str, float]
    """Weight in [0, 1] of each modality that the sample has; empty without trust."""
    missing: tuple[str, ...]
    """Modalities that the sample lacks."""


@dataclass(frozen=True, eq=False)
class PredictionBatch(Sequence[Prediction]):
    """Predictions for N samples, in their order: a sequence of `Prediction`."""

    classes: tuple[str, ...]
    """C names."""
    alpha: float
    """Miscoverage of the prediction sets: for a sample that is exchangeable with the calibration rows of the run, the
    set contains the true class with probability at least 1 − alpha."""
    probabilities: NDArray[np.float64]
    """(N, C) float64."""
    sets: NDArray[np.bool_]
    """Which classes are in each prediction set, (N, C) bool."""
    present: dict[str, NDArray[np.bool_]]
    """By modality of the model, true for samples that have it, (N,)."""
    trust: dict[str, NDArray[np.float64]]
    """Weights of each modality, (N,) in [0, 1], NaN for samples that lack it; empty without trust."""

    @property
    def labels(self) -> list[str]:
        """Name of the most probable class of each sample."""
        return [self.classes[place] for place in self.probabilities.argmax(1)]

    def __len__(self) -> int:
        return len(self.probabilities)

    @overload
    def __getitem__(self, place: int) -> Prediction: ...
    @overload
    def __getitem__(self, place: slice) -> list[Prediction]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        probabilities = self.probabilities[place]
        order = np.argsort(-probabilities, kind="stable")
        having = {m: bool(mask[place]) for m, mask in self.present.items()}
        return Prediction(
            self.classes[order[0]],
            dict(zip(self.classes, probabilities.tolist(), strict=True)),
            tuple(self.classes[k] for k in order if self.sets[place, k]),
            {m: float(values[place]) for m, values in self.trust.items() if having[m]},
            tuple(m for m, has in having.items() if not has),
        )

    @classmethod
    def joined(cls, batches: Sequence[PredictionBatch]) -> PredictionBatch:
        """Return the predictions of one or several batches of one model."""
        first = batches[0]
        return cls(
            first.classes,
            first.alpha,
            np.concatenate([one.probabilities for one in batches]),
            np.concatenate([one.sets for one in batches]),
            {m: np.concatenate([one.present[m] for one in batches]) for m in first.present},
            {m: np.concatenate([one.trust[m] for one in batches]) for m in first.trust},
        )
