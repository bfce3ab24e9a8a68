"""Metrics of class probabilities, as pure functions.

Shapes: N rows, C classes; `probabilities` (N, C), `labels` (N,) in [0, C). Cost O(N·C) each, and
O(C·N log N) for `mean_average_precision`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Return the fraction of rows whose most probable class, the first of several, is the true one.

    Examples
    --------
    >>> accuracy(np.array([[0.7, 0.3], [0.6, 0.4]]), np.array([0, 1]))
    0.5
    """
    return float((probabilities.argmax(-1) == labels).mean())


def confusion_matrix(probabilities: Probabilities, labels: Labels) -> NDArray[np.int64]:
    """Return the (C, C) counts of rows by true class (row) and most probable class (column).

    Examples
    --------
    >>> confusion_matrix(np.array([[0.7, 0.3], [0.6, 0.4]]), np.array([0, 1])).tolist()
    [[1, 0], [1, 0]]
    """
    classes = probabilities.shape[1]
    cells = labels * classes + probabilities.argmax(-1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def macro_f1(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean of 2·TP / (2·TP + FP + FN) over the classes that occur or are predicted.

    Examples
    --------
    >>> round(macro_f1(np.array([[0.7, 0.3], [0.6, 0.4]]), np.array([0, 1])), 4)  # classes 0: 2/3, 1: 0
    0.3333
    """
    counts = confusion_matrix(probabilities, labels)
    hits, either = np.diag(counts), counts.sum(0) + counts.sum(1)
    present = either > 0
    return float((2 * hits[present] / either[present]).mean())


def mean_average_precision(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean average precision of one class against the rest, over the classes that occur.

    Average precision is the sum of precision times increase in recall over the distinct thresholds, without
    interpolation.

    Examples
    --------
    >>> round(mean_average_precision(np.array([[0.7, 0.3], [0.6, 0.4]]), np.array([0, 1])), 4)
    1.0
    """
    classes = np.unique(labels)
    order = np.argsort(-probabilities[:, classes], axis=0, kind="stable")
    ranked = np.take_along_axis(probabilities[:, classes], order, axis=0)
    positive = labels[order] == classes
    places = np.arange(len(labels))[:, None]
    ends = np.where(np.diff(ranked, axis=0, append=np.nan) != 0, places, len(labels))
    last = np.minimum.accumulate(ends[::-1])[::-1]  # of each row, the last row of the same threshold
    precision = np.take_along_axis(positive.cumsum(0), last, axis=0) / (last + 1)
    return float(((precision * positive).sum(0) / positive.sum(0)).mean())


def expected_calibration_error(probabilities: Probabilities, labels: Labels, *, bins: int = 15) -> float:
    """Return the mean absolute difference of confidence and accuracy over equal bins, weighted by their rows.

    Confidence is the largest probability; a bin contains its right edge. Source: Guo et al., *On Calibration of Modern
    Neural Networks*, 2017.

    Examples
    --------
    >>> round(expected_calibration_error(np.array([[0.7, 0.3], [0.7, 0.3]]), np.array([0, 1])), 4)
    0.2
    """
    confidence = probabilities.max(-1)
    right = probabilities.argmax(-1) == labels
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(places, right, bins) - np.bincount(places, confidence, bins)
    return float(np.abs(gaps).sum() / len(labels))


def negative_log_likelihood(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean of −log p(true class) in nats; a probability of 0 is replaced by the smallest double.

    Examples
    --------
    >>> round(negative_log_likelihood(np.array([[0.5, 0.5]]), np.array([1])), 4)
    0.6931
    """
    true = probabilities[np.arange(len(labels)), labels]
    return 0.0 - float(np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean())  # 0.0, not −0.0
