"""Coverage and quality of prediction intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import to_host
from conformal_core._convert import Name, as_floating, as_names
from conformal_core.checks import check_count, check_shape
from conformal_core.metrics import wilson
from conformal_core.quantile import Alpha, miscoverage

Array = Any


class Interval(NamedTuple):
    """Ends of one prediction interval, to be asked for its width and whether it contains a target.

    Examples
    --------
    >>> interval = Interval(*[2.0, 5.0])  # what a predictor returns for one row
    >>> 4.9 in interval, 6.0 in interval, interval.width
    (True, False, 3.0)
    """

    lower: Any
    upper: Any

    @property
    def width(self) -> Any:
        """Upper − lower end, 0 if empty."""
        return max(self.upper - self.lower, 0.0)

    def __contains__(self, target: Any) -> bool:
        return bool(self.lower <= target <= self.upper)


def interval_score(intervals: Array, targets: Array, /, *, alpha: Alpha) -> NDArray[np.float64]:
    """Return the interval score of each row, (upper − lower) + 2/α · distance of the target from the interval.

    It penalises both width and misses, in the unit of the targets: lower is better.

    Parameters
    ----------
    intervals : array, shape (N, 2)
        Lower and upper ends, which may be infinite; an interval whose lower end exceeds the upper one is empty.
    targets : array, shape (N,)
        Finite.
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


def interval_metrics(
    intervals: Array,
    targets: Array,
    /,
    *,
    alpha: Alpha,
    groups: Sequence[Name] | Array | None = None,
    window: int | None = None,
    confidence: Alpha = 0.95,
) -> dict[str, NDArray[Any]]:
    """Return coverage, mean width and mean interval score of all rows, of each group, or along a stream.

    Parameters
    ----------
    intervals, targets, alpha
        As for :func:`interval_score`; both ends belong to an interval.
    groups
        Integer or string of each row; the results then have one entry for each group, numbers first, then strings.
    window
        Number of steps, at least 1; the results then are means over the last ``window`` rows at each row.
    confidence
        Confidence of the interval of the coverage, in (0, 1); see :func:`coverage`.

    Returns
    -------
    dict of arrays
        ``"coverage"``, ``"low"``, ``"high"`` and ``"rows"`` as in :class:`Coverage`, ``"width"`` (0 for an empty
        interval) and ``"score"``: 0-d, (G,) with ``groups``, which adds ``"group"``, or (N,) with ``window``. NaN where
        there is no row.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, shape or range, or both ``groups`` and ``window`` are given.

    Examples
    --------
    >>> import numpy as np
    >>> intervals = np.asarray([[0.0, 1.0], [0.0, 2.0], [1.0, 3.0]])
    >>> seen = interval_metrics(intervals, np.asarray([0.5, 2.5, 3.0]), alpha=0.1, groups=["a", "b", "b"])
    >>> seen["group"].tolist(), seen["coverage"].tolist(), seen["width"].tolist(), seen["score"].tolist()
    (['a', 'b'], [1.0, 0.5], [1.0, 2.0], [1.0, 7.0])
    """
    if groups is not None and window is not None:
        raise TypeError("groups and window cannot both be given: call once for the rows of each group")
    low, high, y = _on_host(intervals, targets)
    rows = {
        "coverage": ((low <= y) & (y <= high)).astype(np.float64),
        "width": np.maximum(high - low, 0.0),
        "score": interval_score(intervals, targets, alpha=alpha),
    }
    if window is not None:
        end = np.arange(1, len(y) + 1)
        start = np.maximum(end - check_count("window", window), 0)
        sums = {name: _running(values, start) for name, values in rows.items()}
        return _means(sums, end - start, confidence)
    names: list[Name] = [0] * len(y)
    if groups is not None:
        given = as_names("groups", groups)
        names = given if isinstance(given, list) else [given]
        if len(names) != len(y):
            raise ValueError(f"groups must have one entry for each of the {len(y)} rows, got {len(names)}")
    known = sorted(set(names), key=lambda name: (isinstance(name, str), name))
    places = {name: place for place, name in enumerate(known)}
    ids, count = np.asarray([places[name] for name in names], dtype=np.int64), 1 if groups is None else len(known)
    sums = {name: _by_group(values, ids, count) for name, values in rows.items()}
    means = _means(sums, np.bincount(ids, minlength=count), confidence)
    if groups is None:
        return {name: values[0] for name, values in means.items()}
    return {"group": np.asarray(known, dtype=object if len({*map(type, known)}) > 1 else None), **means}


def _means(sums: dict[str, NDArray[np.float64]], rows: NDArray[np.int64], confidence: Alpha) -> dict[str, NDArray[Any]]:
    coverage = wilson(sums.pop("coverage"), rows, confidence)
    with np.errstate(invalid="ignore"):
        return {**coverage._asdict(), **{name: values / rows for name, values in sums.items()}}


def _by_group(values: NDArray[np.float64], ids: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(ids, weights=values, minlength=count), dtype=np.float64)


def _running(values: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of values[start[i] : i + 1] for each i; infinite values are counted apart."""
    infinite = np.isinf(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(infinite, 0.0, values))])
    endless = np.concatenate([[0], np.cumsum(infinite)])
    sums = np.where(endless[1:] > endless[start], np.inf, total[1:] - total[start])
    return np.asarray(sums, dtype=np.float64)


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
