"""Statistics of repeated runs: differences paired by seed, tests corrected for their number, ranks of many methods."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.float64]


class Difference(NamedTuple):
    """A mean difference, its confidence interval, and the p-value of Student's paired t-test, two-sided."""

    mean: float
    low: float
    high: float
    p_value: float


def paired_difference(first: Values, second: Values, *, confidence: float = 0.95) -> Difference:
    """Return the mean of first − second over pairs, with its interval and p-value.

    Parameters
    ----------
    first, second
        (n,) each; entry i of both comes from the same seed.
    confidence
        In (0, 1).

    Returns
    -------
    Difference
        One pair allows no test: all but the mean are NaN. The p-value is 1 if nothing differs.

    Raises
    ------
    ValueError
        If the lengths differ, there is no pair, or `confidence` is out of range.

    Examples
    --------
    >>> difference = paired_difference([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])
    >>> [round(float(x), 2) for x in difference]
    [2.0, -0.48, 4.48, 0.07]
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"first and second must hold as many values, at least one, got {a.shape} and {b.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    from scipy.stats import ttest_rel  # noqa: PLC0415  # half a second, and only tables need it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one pair, and of pairs that all differ by the same
        test = ttest_rel(a, b)
        interval = test.confidence_interval(confidence)
    p_value = float(test.pvalue) if (a != b).any() else 1.0
    return Difference(float((a - b).mean()), float(interval.low), float(interval.high), p_value)


def holm(p_values: Values) -> NDArray[np.float64]:
    """Return p-values adjusted for their number, so any error at all among them has at most its probability.

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
    """Return by how much two mean ranks must differ in Nemenyi's test, which compares all pairs.

    Source: Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 2006, section 3.2.2.

    Examples
    --------
    >>> round(critical_difference(4, 14, alpha=0.05), 2)  # the example of the source: 2.569 √(4 · 5 / (6 · 14))
    1.25
    """
    from scipy.stats import studentized_range  # noqa: PLC0415

    quantile = float(studentized_range.ppf(1 - alpha, methods, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * blocks)))
