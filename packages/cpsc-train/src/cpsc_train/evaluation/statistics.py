"""What repeated runs say: differences between two ways of doing a thing, paired by seed."""

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
