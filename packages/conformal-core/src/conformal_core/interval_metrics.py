"""Coverage and quality of prediction intervals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import to_host
from conformal_core._convert import as_floating
from conformal_core._rank import Alpha, miscoverage
from conformal_core.checks import check_shape
from conformal_core.metrics import Coverage, coverage_by_group

Array = Any


def interval_coverage(intervals: Array, targets: Array, /, *, confidence: float = 0.95) -> Coverage:
    """Return the fraction of intervals that contain their target, both ends included.

    Parameters
    ----------
    intervals : array, shape (N, 2)
        Lower and upper ends, which may be infinite; an interval whose lower end exceeds the upper one is empty.
    targets : array, shape (N,)
        Finite.
    confidence
        Confidence of Wilson's interval, in (0, 1); see :func:`coverage`.

    Returns
    -------
    Coverage
        0-d arrays.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> seen = interval_coverage(np.asarray([[0.0, 1.0], [0.0, 2.0], [1.0, 3.0]]), np.asarray([0.5, 2.5, 3.0]))
    >>> round(float(seen.coverage), 3), int(seen.rows)
    (0.667, 3)
    """
    low, high, y = _on_host(intervals, targets)
    hits = (low <= y) & (y <= high)
    return Coverage(*(part[0] for part in coverage_by_group(hits, np.zeros(len(hits), dtype=np.int64), 1, confidence)))


def interval_score(intervals: Array, targets: Array, /, *, alpha: Alpha) -> NDArray[np.float64]:
    """Return the interval score of each row, (upper − lower) + 2/α · distance of the target from the interval.

    It penalises both width and misses: of two methods, the one with the lower mean is better. It has the unit of the
    targets.

    Parameters
    ----------
    intervals, targets
        As for :func:`interval_coverage`.
    alpha
        Miscoverage of the intervals, in (0, 1).

    Returns
    -------
    array of float64, shape (N,)
        +∞ for an infinite interval.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, shape or range.

    Notes
    -----
    Gneiting and Raftery, *Strictly proper scoring rules, prediction, and estimation* (2007), equation 43.

    Examples
    --------
    >>> import numpy as np
    >>> interval_score(np.asarray([[0.0, 1.0], [0.0, 2.0]]), np.asarray([0.5, 2.5]), alpha=0.1)
    array([ 1., 12.])
    """
    low, high, y = _on_host(intervals, targets)
    missed = np.maximum(np.maximum(low - y, y - high), 0.0)
    return np.asarray(high - low + 2 / float(miscoverage(alpha)) * missed, dtype=np.float64)


def _on_host(intervals: Array, targets: Array) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower ends, the upper ends and the targets, each (N,) on the host."""
    intervals = as_floating("intervals", intervals)
    targets = as_floating("targets", targets, intervals)
    check_shape("intervals", intervals, ("N", 2))
    check_shape("targets", targets, (intervals.shape[0],))
    ends, y = np.asarray(to_host(intervals), np.float64), np.asarray(to_host(targets), np.float64)
    if np.isnan(ends).any():
        raise ValueError("intervals must hold no NaN, got some")
    if not np.isfinite(y).all():
        raise ValueError("targets must be finite, got NaN or infinity")
    return ends[:, 0], ends[:, 1], y
