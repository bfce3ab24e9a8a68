"""Figures of a run folder that only `findings.py` uses: separation of the classes, and reliability by epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

from cpsc_train.data.storage.npz import read_npz
from cpsc_train.models import FUSED
from cpsc_train.runs import RunFolder

PREFIX = "features/"


def separation(features: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, float]:
    """Return the mean silhouette of features (N, d), and ``scatter``, within-class over between-class."""
    h = features.astype(np.float64)
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.stack([h[places == place].mean(0) for place in range(len(counts))])
    between = (counts * np.square(means - h.mean(0)).sum(1)).sum()
    return {
        "scatter": float(np.square(h - means[places]).sum() / between),
        "silhouette": float(silhouette_score(h, labels)),
    }


def separations(folder: RunFolder) -> dict[str, dict[str, float]]:
    """Return `separation` of the saved features of clean test rows, by modality and for their concatenation."""
    arrays = read_npz(folder.predictions)
    features = {name.removeprefix(PREFIX): h for name, h in arrays.items() if name.startswith(PREFIX)}
    labels = arrays["labels"][: len(next(iter(features.values())))]
    features[FUSED] = np.concatenate(list(features.values()), 1)
    return {name: separation(h, labels) for name, h in features.items()}


def reliability(folder: RunFolder) -> dict[str, dict[str, list[float]]]:
    """Return by modality the figures of its reliability on training rows by epoch, after warm-up."""
    course: dict[str, dict[str, list[float]]] = {}
    for record in folder.read_metrics():
        for m, spread in record.get("spread", {}).get("reliability", {}).items():
            for name, value in spread.items():
                course.setdefault(m, {}).setdefault(name, []).append(value)
    return course
