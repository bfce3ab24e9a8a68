"""Selection of unusual rows with a bound on the fraction of false discoveries."""

import math
from typing import Any

from conformal_core._arrays import array_namespace, device
from conformal_core._convert import as_floating
from conformal_core._rank import Alpha, miscoverage
from conformal_core.checks import first_index, is_checked

Array = Any


def benjamini_hochberg(p_values: Array, /, *, alpha: Alpha, check: bool | None = None) -> Array:
    """Select rows that are not like those of calibration, with a false discovery rate of at most ``alpha``.

    Parameters
    ----------
    p_values : array, shape (...)
        p-values of m rows, such as those of :class:`NoveltyGate`.
    alpha
        Largest expected fraction of rows like those of calibration among the selected ones, in (0, 1).
    check
        Whether to check values; None means if the host can read them without a sync.

    Returns
    -------
    array of bool, shape (...)

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, or a value lies outside [0, 1].

    Notes
    -----
    Selected are the k smallest p-values, for the largest k at which the k-th is at most αk/m. Benjamini and Hochberg,
    *Controlling the false discovery rate* (1995). It holds for p-values from one calibration set, although they depend
    on one another, if they are not smoothed: Bates, Candès, Lei, Romano and Sesia, *Testing for outliers with conformal
    p-values* (2023). O(m log m).

    Examples
    --------
    >>> import numpy as np
    >>> benjamini_hochberg(np.asarray([0.02, 0.6, 0.01, 0.06]), alpha=0.1)
    array([ True, False,  True,  True])
    """
    p_values, level = as_floating("p_values", p_values), miscoverage(alpha)
    xp = array_namespace(p_values=p_values)
    if is_checked(p_values, check):
        outside = xp.logical_not((p_values >= 0) & (p_values <= 1))  # also true for NaN
        if bool(xp.any(outside)):
            raise ValueError(f"p_values must lie in [0, 1], got {float(p_values[first_index(outside, xp)])}")
    count, where = math.prod(p_values.shape), device(p_values)
    if count == 0:
        return xp.zeros(p_values.shape, dtype=xp.bool, device=where)
    ascending = xp.sort(xp.reshape(p_values, (-1,)))
    ranks = xp.arange(1, count + 1, dtype=xp.float64, device=where)
    limits = ranks * float(level.numerator) / float(level.denominator * count)
    limits = xp.astype(limits, ascending.dtype)  # in which the p-values are rounded
    return p_values <= xp.max(xp.where(ascending <= limits, ascending, -xp.ones_like(ascending)))
