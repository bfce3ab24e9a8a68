"""Coverage and size of prediction sets, and a confidence sequence for the coverage of a stream."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import as_array, to_host
from conformal_core._convert import as_booleans, as_integers, as_labels
from conformal_core._settings import Resettable, Saved, shown
from conformal_core._state import State, read_count, read_number, refuse_if
from conformal_core.checks import check_count
from conformal_core.quantile import Alpha, miscoverage
from conformal_core.sets import set_size

Array = Any

_MOST_GROUPS = 1 << 24  # four arrays of this length are allocated, whatever the number of rows

# Exponents of the bets: small ones for long streams, large ones for short streams.
_EXPONENTS = np.outer([-1.0, 1.0], 2.0 ** np.arange(-10.0, 4.0)).reshape(-1)
_HALVINGS = 60


class Coverage(NamedTuple):
    """Fraction of sets that contain their label, with a confidence interval: arrays with one entry per group.

    Attributes
    ----------
    coverage : array of float64
        In [0, 1]; NaN for a group without rows.
    low, high : array of float64
        Ends of Wilson's interval. A 95 % interval contains a coverage of .8 to .99 with probability .95 on average, at
        least .89 from 20 rows on, and .92 from 200.
    rows : array of int64
        Number of rows.
    """

    coverage: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rows: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"Coverage({', '.join(f'{name}={shown(value)}' for name, value in self._asdict().items())})"


def coverage(sets: Array, labels: Array, /, *, confidence: Alpha = 0.95) -> Coverage:
    """Return the fraction of all sets that contain their label.

    Parameters
    ----------
    sets : array of bool, shape (N, K) or, of one row, (K,)
    labels : array of int, shape (N,), or int
    confidence
        Confidence of the interval, in (0, 1).

    Returns
    -------
    Coverage
        0-d arrays.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, shape or range.

    Notes
    -----
    Wilson, *Probable inference, the law of succession, and statistical inference* (1927). The interval is
    conditional on the calibration set; between sets, coverage varies by another √(α(1 − α)/N) or so.

    Examples
    --------
    >>> import numpy as np
    >>> seen = coverage(np.asarray([[True, False], [True, True], [False, True]]), np.asarray([0, 1, 0]))
    >>> round(float(seen.coverage), 3), int(seen.rows)
    (0.667, 3)
    """
    _, _, hits = _hits(sets, labels)
    return Coverage(*(part[0] for part in coverage_by_group(hits, np.zeros(len(hits), dtype=np.int64), 1, confidence)))


def class_coverage(sets: Array, labels: Array, /, *, confidence: Alpha = 0.95) -> Coverage:
    """Return the coverage of each class, arrays of shape (K,); arguments and errors as :func:`coverage`.

    Examples
    --------
    >>> import numpy as np
    >>> class_coverage(np.asarray([[True, False], [True, True], [False, True]]), np.asarray([0, 1, 0])).coverage
    array([0.5, 1. ])
    """
    sets, ids, hits = _hits(sets, labels)
    return coverage_by_group(hits, ids, sets.shape[-1], confidence)


def size_coverage(sets: Array, labels: Array, /, *, confidence: Alpha = 0.95) -> Coverage:
    """Return the coverage and number of the sets of each size 0..K, arrays (K + 1,); arguments as :func:`coverage`.

    The smallest coverage is the size-stratified coverage (Angelopoulos et al. 2021).

    Examples
    --------
    >>> import numpy as np
    >>> size_coverage(np.asarray([[True, False], [True, True], [False, True]]), np.asarray([0, 1, 0])).rows
    array([0, 2, 1])
    """
    sets, _, hits = _hits(sets, labels)
    return coverage_by_group(hits, to_host(set_size(sets)), sets.shape[-1] + 1, confidence)


def group_coverage(sets: Array, labels: Array, /, *, groups: Array, confidence: Alpha = 0.95) -> Coverage:
    """Return the coverage of each group, arrays of shape (G,) for groups (N,) in 0..G−1; the rest as :func:`coverage`.

    The worst group is ``np.nanargmin(group_coverage(...).coverage)``.

    Examples
    --------
    >>> import numpy as np
    >>> sets = np.asarray([[True, False], [True, True], [False, True]])
    >>> group_coverage(sets, np.asarray([0, 1, 0]), groups=np.asarray([0, 0, 1])).coverage
    array([1., 0.])
    """
    _, _, hits = _hits(sets, labels)
    groups = as_array("groups", groups)
    ids = to_host(as_integers("groups", groups, groups)).reshape(hits.shape if groups.ndim == 0 else groups.shape)
    if ids.shape != hits.shape:
        raise ValueError(f"groups must have the shape {hits.shape} of the labels, got {ids.shape}")
    if len(ids) and ids.min() < 0:
        raise ValueError(f"groups must be at least 0, got {ids.min()}")
    if len(ids) and ids.max() >= _MOST_GROUPS:
        raise ValueError(f"groups must be numbered 0..G-1 with G at most {_MOST_GROUPS}, got {ids.max()}")
    return coverage_by_group(hits, ids, int(ids.max()) + 1 if len(ids) else 0, confidence)


def rolling_coverage(hits: Array, /, *, window: int) -> NDArray[np.float64]:
    """Return the coverage of the last ``window`` steps of a stream at each step, or of all steps if there are fewer.

    Parameters
    ----------
    hits : array of bool, shape (T,)
        Whether the set of each step contained the label.
    window
        Number of steps, at least 1.

    Returns
    -------
    array of float64, shape (T,)
        O(T).

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind or range.

    Examples
    --------
    >>> import numpy as np
    >>> rolling_coverage(np.asarray([True, False, True, True]), window=2)
    array([1. , 0.5, 0.5, 1. ])
    """
    check_count("window", window)
    hits, _ = as_booleans("hits", hits)
    if hits.ndim != 1:
        raise ValueError(f"hits must have shape (T,), got {tuple(hits.shape)}")
    total = np.concatenate([[0], np.cumsum(to_host(hits))])
    end = np.arange(1, len(total))
    start = np.maximum(end - window, 0)
    return np.asarray((total[end] - total[start]) / (end - start), dtype=np.float64)


def _hits(sets: Array, labels: Array) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Return sets (N, K), and on the host the label of each (N,) and whether it is in the set (N,)."""
    sets, xp = as_booleans("sets", sets)
    if sets.ndim == 1:
        sets = sets[None, :]
    if sets.ndim != 2:
        raise ValueError(f"sets must have shape (N, K), got {tuple(sets.shape)}")
    own = as_labels(labels, sets, check=True)
    return sets, to_host(own), to_host(xp.take_along_axis(sets, own[:, None], axis=-1)[:, 0])


def coverage_by_group(hits: NDArray[np.bool_], ids: NDArray[np.int64], count: int, confidence: Alpha) -> Coverage:
    """Return the coverage of each of `count` groups, for hits (N,) and their groups (N,)."""
    return wilson(np.bincount(ids, weights=hits, minlength=count), np.bincount(ids, minlength=count), confidence)


def wilson(hits: NDArray[Any], rows: NDArray[np.int64], confidence: Alpha) -> Coverage:
    """Return the fraction of hits among rows, with Wilson's interval."""
    confidence = float(miscoverage(confidence, "confidence"))
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    with np.errstate(invalid="ignore"):
        fraction = hits / rows
        n = rows + z**2
        centre = (fraction * rows + z**2 / 2) / n
        half = z / n * np.sqrt(fraction * (1 - fraction) * rows + z**2 / 4)
    # At a fraction of 0 or 1 the end is exactly that fraction, without rounding.
    low = np.where(fraction == 0, 0.0, np.maximum(centre - half, 0.0))
    high = np.where(fraction == 1, 1.0, np.minimum(centre + half, 1.0))
    empty = rows == 0
    return Coverage(fraction, np.where(empty, math.nan, low), np.where(empty, math.nan, high), rows)


class ConfidenceSequence(Saved, Resettable):
    """Interval for the mean of hits, losses or other values in [0, 1] that may be looked at after every value.

    That of :func:`coverage` is for a number of rows fixed in advance. This one is 1.4 to 1.8 times as wide.

    Parameters
    ----------
    confidence
        Probability 1 − δ that the interval holds at all times, in (0, 1).

    Raises
    ------
    TypeError, ValueError
        If ``confidence`` is not a number in (0, 1).

    Notes
    -----
    Guarantee: with probability at least ``confidence``, the interval contains at every time n the mean over t ≤ n of
    μ_t = E[X_t | past], for any sequence in [0, 1]; for hits of a predictor on independent rows, its coverage.

    It holds the μ at which the mean of exp(λ Σ X_t)/(1 + μ(e^λ − 1))ⁿ over 28 exponents λ is below 1/δ. Howard, Ramdas,
    McAuliffe and Sekhon, *Time-uniform, nonparametric, nonasymptotic confidence sequences* (2021). O(1) per value; the
    interval takes about a millisecond.

    Examples
    --------
    >>> sequence = ConfidenceSequence(confidence=0.95)
    >>> sequence.update([True] * 90 + [False] * 10)
    >>> [round(float(end), 3) for end in sequence.interval[:3]]
    [0.9, 0.766, 0.975]
    """

    _kind, _saved = "ConfidenceSequence", ("confidence",)

    def __init__(self, *, confidence: Alpha = 0.95) -> None:
        self._confidence = float(miscoverage(confidence, "confidence"))
        self._limit = math.log(len(_EXPONENTS)) - math.log1p(-self._confidence)
        self._count, self._total = 0, 0.0

    def update(self, values: Array) -> None:
        """Add booleans or numbers in [0, 1], one or an array of any shape, or raise TypeError or ValueError."""
        array = to_host(as_array("values", values))
        if array.dtype.kind not in "biuf":
            raise TypeError(f"values must hold numbers or booleans, got {array.dtype}")
        flat = array.astype(np.float64).reshape(-1)
        if bad := flat[~((flat >= 0) & (flat <= 1))].tolist():  # also NaN
            raise ValueError(f"values must lie in [0, 1], got {bad[0]}")
        self._count += len(flat)
        for value in flat.tolist():
            self._total += value

    @property
    def interval(self) -> Coverage:
        """Mean of the values, NaN before the first, the ends of its interval, and the number of values; 0-d arrays."""
        mean = self._total / self._count if self._count else math.nan
        inside = min(mean, 1.0) if self._count else 0.5
        low, high = (_last(self._holds, inside, end) for end in (0.0, 1.0))
        return Coverage(*map(np.asarray, (mean, low, high, self._count)))

    def _holds(self, mean: float) -> bool:
        growth = _EXPONENTS * self._total - self._count * np.log1p(mean * np.expm1(_EXPONENTS))
        top = float(growth.max())
        return top + math.log(float(np.exp(growth - top).sum())) < self._limit

    def _learned(self) -> State:
        return {"count": self._count, "total": self._total}

    def _restore(self, state: State) -> None:
        count, total = read_count(state, "count"), read_number(state, "total", least=0.0)
        refuse_if(total > count, state, f"a total of at most {count}", total)
        self._count, self._total = count, total


def _last(holds: Callable[[float], bool], inside: float, end: float) -> float:
    """Return the number closest to ``end`` at which a rule holds, which holds at ``inside`` and on an interval."""
    if holds(end):
        return end
    for _ in range(_HALVINGS):
        middle = (inside + end) / 2
        inside, end = (middle, end) if holds(middle) else (inside, middle)
    return end
