"""Metrics of class probabilities, as pure functions.

Shapes: N rows, C classes; `labels` and `predicted` (N,) in [0, C). Cost O(N) each, O(N log N) for `average_precision`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


def accuracy(predicted: Labels, labels: Labels) -> float:
    """Return the fraction of rows whose most probable class is the true one.

    Examples
    --------
    >>> accuracy(np.array([0, 0]), np.array([0, 1]))
    0.5
    """
    return float((predicted == labels).mean())


def confusion_matrix(predicted: Labels, labels: Labels, classes: int) -> NDArray[np.int64]:
    """Return the (C, C) counts of rows by true class (row) and most probable class (column).

    Examples
    --------
    >>> confusion_matrix(np.array([0, 0]), np.array([0, 1]), 2).tolist()
    [[1, 0], [1, 0]]
    """
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def macro_f1(predicted: Labels, labels: Labels) -> float:
    """Return the mean of 2·TP / (2·TP + FP + FN) over the classes that occur or are predicted.

    Examples
    --------
    >>> round(macro_f1(np.array([0, 0]), np.array([0, 1])), 4)  # classes 0: 2/3, 1: 0
    0.3333
    """
    classes = 1 + max(predicted.max(), labels.max())
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    either = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    present = either > 0
    return float((2 * hits[present] / either[present]).mean())


def average_precision(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the average precision of scores (N,), of which at least one is `positive`.

    This is the sum of precision times increase in recall over the distinct thresholds, without interpolation: the mean
    over the positive rows of the precision among the rows with at least their score.

    Examples
    --------
    >>> average_precision(np.array([0.9, 0.5, 0.4]), np.array([True, False, True]))  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    ordered, own = np.sort(scores), np.sort(scores[positive])
    above = len(own) - np.searchsorted(own, own)
    return float((above / (len(ordered) - np.searchsorted(ordered, own))).mean())


def expected_calibration_error(confidence: Floats, right: NDArray[np.bool_], *, bins: int = 15) -> float:
    """Return the mean absolute difference of confidence and accuracy over equal bins, weighted by their rows.

    `confidence` (N,) are the largest probabilities, and `right` (N,) whether their classes are the true ones. A bin
    contains its right edge. Source: Guo et al., *On Calibration of Modern Neural Networks*, 2017.

    Examples
    --------
    >>> round(expected_calibration_error(np.array([0.7, 0.7]), np.array([True, False])), 4)
    0.2
    """
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(places, right, bins) - np.bincount(places, confidence, bins)
    return float(np.abs(gaps).sum() / len(right))


def negative_log_likelihood(true: Floats) -> float:
    """Return the mean of −log p in nats over the probabilities (N,) of the true classes.

    A probability of 0 is replaced by the smallest double.

    Examples
    --------
    >>> round(negative_log_likelihood(np.array([0.5])), 4)
    0.6931
    """
    return 0.0 - float(np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean())  # 0.0, not −0.0
