"""What repeated runs say: differences paired by seed, tests that know how many there are, and ranks of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.float64]


class Difference(NamedTuple):
    """A mean difference and its confidence interval."""

    mean: float
    low: float
    high: float


def paired_difference(first: Values, second: Values, *, confidence: float = 0.95) -> Difference:
    """Return the mean of first − second over pairs, with the interval of Student's t.

    Parameters
    ----------
    first, second
        (n,) each; entry i of both comes from the same seed.
    confidence
        In (0, 1).

    Returns
    -------
    Difference
        With one pair there is no interval: its ends are NaN.

    Raises
    ------
    ValueError
        If the lengths differ, there is no pair, or `confidence` is out of range.

    Examples
    --------
    >>> found = paired_difference([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])
    >>> [round(float(x), 2) for x in found]
    [2.0, -0.48, 4.48]
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"first and second must hold as many values, at least one, got {a.shape} and {b.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    apart = a - b
    mean = float(apart.mean())
    if len(apart) == 1:
        return Difference(mean, float("nan"), float("nan"))
    from scipy.stats import t  # noqa: PLC0415  # half a second, and only tables need it

    reach = float(t.ppf((1 + confidence) / 2, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart)))
    return Difference(mean, mean - reach, mean + reach)


def paired_p_value(first: Values, second: Values) -> float:
    """Return the two-sided p-value of Student's paired t-test; 1 if nothing differs, NaN of one pair.

    Examples
    --------
    >>> round(paired_p_value([3.0, 5.0, 4.0], [1.0, 2.0, 3.0]), 4)
    0.0742
    """
    apart = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    if not apart.any():
        return 1.0
    if len(apart) == 1:
        return float("nan")
    from scipy.stats import t  # noqa: PLC0415

    deviation = float(apart.std(ddof=1))
    if deviation == 0:
        return 0.0
    return float(2 * t.sf(abs(apart.mean()) / deviation * np.sqrt(len(apart)), len(apart) - 1))


def holm(p_values: Values) -> NDArray[np.float64]:
    """Return p-values adjusted for their number, so that any error at all among them has at most its probability.

    Source: Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, 1979. Tests need not be independent.

    Parameters
    ----------
    p_values
        (n,) in [0, 1]; NaN stands for no test, stays, and is not counted.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


def mean_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean rank (k,) of k methods over n blocks, of scores (n, k); the largest score of a block has rank 1.

    Examples
    --------
    >>> mean_ranks(np.array([[90.0, 80.0, 80.0], [70.0, 60.0, 75.0]])).tolist()
    [1.5, 2.75, 1.75]
    """
    from scipy.stats import rankdata  # noqa: PLC0415

    ranks: NDArray[np.float64] = rankdata(-np.asarray(scores, dtype=float), axis=1).mean(0)
    return ranks


def critical_difference(methods: int, blocks: int, *, alpha: float = 0.05) -> float:
    """Return how far two mean ranks must be apart for Nemenyi's test, which compares all pairs.

    Source: Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 2006, section 3.2.2.

    Examples
    --------
    >>> round(critical_difference(4, 14, alpha=0.05), 2)  # the example of the source: 2.569 √(4 · 5 / (6 · 14))
    1.25
    """
    from scipy.stats import studentized_range  # noqa: PLC0415

    quantile = float(studentized_range.ppf(1 - alpha, methods, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * blocks)))
