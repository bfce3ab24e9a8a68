"""Thresholds of prediction sets for rows in which a modality is unusual, by bins of its typicality.

Shapes: n rows, R copies of calibration rows, M modalities.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core import conformal_quantile, quantile_rank, weighted_conformal_quantile

Floats = NDArray[np.float64]
MOST_BINS = 3
"""Most bins for each modality that is least typical."""
FEWEST_ROWS = 30
"""Fewest calibration rows in a bin."""


@dataclass(frozen=True)
class Bin:
    """Rows in which one modality is the least typical, with a mean typicality in a range that ends at `high`."""

    least: int
    """Place of the least typical modality."""
    high: float
    """Largest mean typicality."""
    qhat: float
    """Threshold."""
    calibration: int
    """Number of copies of calibration rows that it is calibrated on."""


@dataclass(frozen=True)
class TypicalityBins:
    """Thresholds of the rows in which a modality is unusual, fitted by `fit`.

    Notes
    -----
    A bin is a category of a Mondrian predictor: rows with one least typical modality, and a range of the mean.
    Its threshold is calibrated on clean and corrupted copies of the calibration rows. Copies of one row are dependent,
    so a new row counts as many times as any of them: the threshold is the smallest s with #{copies in the bin ≤ s} ≥
    (1 − α)(R + K), where R copies are in the bin, and K is the largest number of copies of one row (groups of
    exchangeable rows; Lee, Barber and Willett, *Distribution-free inference with hierarchical data*, 2023).

    Guarantee, with fixed bins: coverage of at least 1 − α over a bin for rows from the same mixture, a new row under a
    kind of corruption drawn uniformly from those of the copies. There is none for a single kind, or for one that is not
    among them. The edges are quantiles of the same copies, which makes it approximate.
    """

    bins: tuple[Bin, ...]
    other: float
    """Threshold of the rows outside all bins."""

    @classmethod
    def fit(
        cls, typicality: Floats, scores: Floats, rows: NDArray[np.int64], full: float, *, alpha: float
    ) -> TypicalityBins:
        """Return the thresholds for typicality (R, M) and scores (R,) of copies of the calibration `rows` (R,).

        Rows outside all bins get the largest threshold, at least `full`, that of rows without an unusual modality;
        without any bin, at least that of all copies together.
        """
        least, mean = typicality.argmin(1), typicality.mean(1)
        unusual = (typicality < 1).any(1)
        bins = []
        for place in range(typicality.shape[1]):
            mine = np.flatnonzero(unusual & (least == place))
            for high, members in _divided(mean, mine, rows):
                bins.append(Bin(place, high, _quantile_of_copies(scores[members], rows[members], alpha), len(members)))
        qhats = [one.qhat for one in bins] or [_quantile_of_copies(scores, rows, alpha)]
        return cls(tuple(bins), max([full, *qhats]))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TypicalityBins:
        """Return what `state_dict` was called on."""
        return cls(tuple(Bin(**one) for one in state["bins"]), state["other"])

    def state_dict(self) -> dict[str, Any]:
        """Return the thresholds as lists and numbers."""
        return {"bins": [asdict(one) for one in self.bins], "other": self.other}

    def of(self, typicality: Floats) -> NDArray[np.int64]:
        """Return the place in `bins` for each row of typicality (n, M), −1 for rows outside all of them, (n,)."""
        least, mean = typicality.argmin(1), typicality.mean(1)
        places = np.full(len(typicality), -1)
        for place in reversed(range(len(self.bins))):
            one = self.bins[place]
            last = place + 1 == len(self.bins) or self.bins[place + 1].least != one.least
            places[(least == one.least) & ((mean <= one.high) | last)] = place
        return places


def quantile(scores: Floats, alpha: float) -> float:
    """Return the conformal quantile of scores (n,); ∞ if they are too few for alpha.

    Examples
    --------
    >>> quantile(np.arange(1.0, 10.0), 0.2), quantile(np.arange(3.0), 0.2)
    (8.0, inf)
    """
    return (
        float("inf")
        if quantile_rank(len(scores), alpha=alpha) is None
        else float(conformal_quantile(scores, alpha=alpha))
    )


def _quantile_of_copies(scores: Floats, rows: NDArray[np.int64], alpha: float) -> float:
    """Return the quantile of copies of calibration rows, where a new row may have as many copies as any of them."""
    copies = np.unique(rows, return_counts=True)[1].max(initial=0)
    if not len(scores) or len(scores) < (1 - alpha) * (len(scores) + copies):
        return float("inf")
    return float(weighted_conformal_quantile(scores, np.ones(len(scores)), float(copies), alpha=alpha))


def _divided(mean: Floats, places: NDArray[np.int64], rows: NDArray[np.int64]) -> list[tuple[float, NDArray[np.int64]]]:
    """Divide copies into up to `MOST_BINS` parts of about equal numbers by their mean typicality, with its largest."""
    count = min(MOST_BINS, len(np.unique(rows[places])) // FEWEST_ROWS)
    edges = np.unique(np.quantile(mean[places], np.arange(1, count + 1) / count)) if count else np.zeros(0)
    part = np.searchsorted(edges, mean[places])
    found = [(float(edge), places[part == place]) for place, edge in enumerate(edges)]
    if all(len(np.unique(rows[members])) >= FEWEST_ROWS for _, members in found):
        return found
    return [(float(edges[-1]), places)]
