"""Measures of the separation of classes in feature space.

Shapes: N rows, d feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
NONE: Mapping[str, NDArray[np.bool_]] = MappingProxyType({})


def separation(features: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, float | None]:
    """Return ``scatter`` and ``silhouette`` of features (N, d); None where fewer than two classes have two rows.

    ``scatter`` is the trace of the within-class scatter matrix over that of the between-class scatter matrix: lower is
    better separated. ``silhouette`` is the mean of (b − a) / max(a, b) over rows, with a the mean Euclidean distance to
    the other rows of the class and b the smallest mean distance to another class, in [−1, 1]: higher is better
    separated. Rows of a class with one row have silhouette 0. Cost: O(N²d).

    Source: Rousseeuw, *Silhouettes: a graphical aid to the interpretation and validation of cluster analysis*, 1987.

    Examples
    --------
    >>> points = np.array([[0.0], [2.0], [10.0], [12.0]])
    >>> {name: round(value, 3) for name, value in separation(points, np.array([0, 0, 1, 1])).items()}
    {'scatter': 0.04, 'silhouette': 0.798}
    """
    h = features.astype(np.float64)
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if (counts >= 2).sum() < 2:
        return {"scatter": None, "silhouette": None}
    member = (places[:, None] == np.arange(len(counts))).astype(np.float64)
    means = member.T @ h / counts[:, None]
    within = float(np.square(h - means[places]).sum())
    between = float((counts * np.square(means - h.mean(0)).sum(1)).sum())
    scatter = within / between if between > 0 else None
    return {"scatter": scatter, "silhouette": float(_silhouette(h, member, places, counts).mean())}


def separations(
    features: Mapping[str, NDArray[Any]],
    labels: NDArray[np.int64],
    fused: str,
    present: Mapping[str, NDArray[np.bool_]] = NONE,
) -> dict[str, dict[str, float | None]]:
    """Return `separation` by modality, of the rows that have it, and under `fused` of the concatenated features."""
    everywhere = np.ones(len(labels), bool)
    rows = {m: present.get(m, everywhere) for m in features}
    of = {m: separation(h[rows[m]], labels[rows[m]]) for m, h in features.items()}
    return of | {fused: separation(np.concatenate(list(features.values()), 1), labels)}


def _silhouette(h: Values, member: Values, places: NDArray[np.int64], counts: NDArray[np.int64]) -> Values:
    rows = np.arange(len(h))
    squares = np.square(h).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * h @ h.T, 0))
    distances[rows, rows] = 0  # exact despite rounding
    sums = distances @ member
    own = sums[rows, places] / np.maximum(counts[places] - 1, 1)
    other = sums / counts
    other[rows, places] = np.inf
    nearest = other.min(1)
    larger = np.maximum(own, nearest)
    return np.where((counts[places] > 1) & (larger > 0), (nearest - own) / np.where(larger > 0, larger, 1), 0.0)
