"""Statistics of repeated runs: paired differences, tests corrected for their number, power, ranks of many methods.

The unit of a test is a run if all runs have one division of the data, else a division: runs with the same training,
calibration and test rows are not independent, so their differences are averaged first.
"""

from __future__ import annotations

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


def paired_difference(
    first: Values,
    second: Values,
    *,
    divisions: Sequence[object] | None = None,
    overlap: float = 0.0,
    confidence: float = 0.95,
) -> Difference:
    """Return the mean of first − second over pairs, with its interval and p-value.

    Source of `overlap`: Nadeau and Bengio, *Inference for the Generalization Error*, Machine Learning 52, 2003: with n
    random divisions, the variance of the mean is s² (1/n + overlap), not s²/n, because their training rows overlap.

    Parameters
    ----------
    first, second
        (n,) each; entry i of both comes from the same seed and division.
    divisions
        (n,) the division of each entry, over which differences are averaged first. If None, all have the same one.
    overlap
        Number of test rows over that of all other rows if each division has its own test rows; 0 if all share them.
        Not used with a single division.
    confidence
        In (0, 1).

    Returns
    -------
    Difference
        One pair, or one division, allows no test: all but the mean are NaN. The p-value is 1 if nothing differs.

    Raises
    ------
    ValueError
        If the lengths differ, there is no pair, or `confidence` is out of range.

    Examples
    --------
    >>> difference = paired_difference([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])
    >>> [round(float(x), 2) for x in difference]
    [2.0, -0.48, 4.48, 0.07]
    >>> difference = paired_difference([3.0, 5.0, 4.0], [1.0, 2.0, 3.0], divisions=[0, 1, 2], overlap=0.25)
    >>> [round(float(x), 2) for x in difference]
    [2.0, -1.29, 5.29, 0.12]
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    apart = unit_differences(first, second, divisions)
    n, mean = len(apart), float(apart.mean())
    if n == 1:
        nan = float("nan")
        return Difference(mean, nan, nan, nan if mean else 1.0)
    from scipy.stats import t  # noqa: PLC0415  # half a second, and only tables need it

    error = _error(float(apart.std(ddof=1)), n, _applied(divisions, overlap))
    reach = error * float(t.ppf((1 + confidence) / 2, n - 1))
    if error == 0:
        return Difference(mean, mean, mean, 0.0 if mean else 1.0)
    return Difference(mean, mean - reach, mean + reach, float(2 * t.sf(abs(mean) / error, n - 1)))


def unit_differences(first: Values, second: Values, divisions: Sequence[object] | None = None) -> NDArray[np.float64]:
    """Return first − second of each run or, with more than one division, its mean in each division.

    Raises ValueError if the lengths differ, or there is no pair.

    Examples
    --------
    >>> unit_differences([3.0, 5.0, 4.0], [1.0, 2.0, 3.0], divisions=[0, 0, 1]).tolist()
    [2.5, 1.0]
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"first and second must hold as many values, at least one, got {a.shape} and {b.shape}")
    apart: NDArray[np.float64] = a - b
    if divisions is None or len(set(divisions)) == 1:
        return apart
    if len(divisions) != len(apart):
        raise ValueError(f"divisions must hold as many values as first, {len(apart)}, got {len(divisions)}")
    places = {division: [i for i, one in enumerate(divisions) if one == division] for division in divisions}
    return np.array([apart[rows].mean() for rows in places.values()])


def smallest_difference(
    deviation: float, units: int, *, overlap: float = 0.0, level: float = 0.05, power: float = 0.8
) -> float:
    """Return the smallest true difference that the paired test detects with a given power.

    - `deviation`: standard deviation of the paired differences over units, at least 0.
    - `units`: number of runs or divisions compared; with fewer than 2 the result is NaN.
    - `overlap`: as in `paired_difference`.
    - `level`: significance level of the two-sided test, such as .05, or .05 / m for the first step of Holm's method
      with m comparisons.
    - `power`: probability of detection, in (level, 1).

    Examples
    --------
    >>> round(smallest_difference(1.0, 34), 2)  # Cohen's table: 34 pairs detect half a standard deviation
    0.5
    """
    if units < 2:
        return float("nan")
    from scipy.optimize import brentq  # noqa: PLC0415
    from scipy.stats import nct, t  # noqa: PLC0415

    quantile = float(t.ppf(1 - level / 2, units - 1))

    def lacking(shift: float) -> float:
        return float(nct.sf(quantile, units - 1, shift)) - power  # the other tail is below `level` / 2

    return float(brentq(lacking, 0, 4 * quantile + 10)) * _error(deviation, units, overlap)


def _error(deviation: float, units: int, overlap: float) -> float:
    return deviation * float(np.sqrt(1 / units + overlap))


def _applied(divisions: Sequence[object] | None, overlap: float) -> float:
    return overlap if divisions is not None and len(set(divisions)) > 1 else 0.0


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
