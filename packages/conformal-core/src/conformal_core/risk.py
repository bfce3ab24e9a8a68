"""Risk control: the least conservative threshold whose expected loss is bounded.

All functions take a table of losses (N, L), the loss of each calibration row at each of L thresholds. Its columns are
ordered from the least to the most conservative threshold. Tables of any array library are read on the host.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import array_namespace, device, to_host
from conformal_core._convert import as_floating
from conformal_core.checks import check_finite, check_finite_number, first_index, is_checked
from conformal_core.quantile import Alpha, miscoverage

Array = Any

_ROUNDING = 1e-9  # by which a loss may seem to increase


def control_risk(losses: Array, /, *, alpha: Alpha, delta: Alpha | None = None, bound: float = 1.0) -> int | None:
    """Index of the least conservative threshold that controls the risk, the expected loss of a new row.

    Parameters
    ----------
    losses : array, shape (N, L)
        Losses in [0, bound], of which none increases along a row: the last threshold is the most conservative.
    alpha
        Largest risk as a fraction of ``bound``, in (0, 1).
    delta
        If None, the risk, averaged over calibration sets, is at most ``alpha · bound``. If a number in (0, 1), the risk
        exceeds it with probability at most ``delta`` over calibration sets.
    bound
        Largest possible loss, positive.

    Returns
    -------
    int or None
        Index in 0..L − 1; None if no threshold controls the risk, because the losses are too large or the rows too few.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind or value, or a loss increases along a row: see :func:`learn_then_test`.

    Notes
    -----
    Without ``delta``, for exchangeable rows: the first column from which on (Σ loss + bound)/(N + 1) ≤ alpha · bound;
    Angelopoulos, Bates, Fisch, Lei and Schuster, *Conformal risk control* (2024). With it, for independent and
    identically distributed rows: :func:`risk_p_values`, tested from the last column backwards; Bates, Angelopoulos,
    Lei, Malik and Jordan, *Distribution-free, risk-controlling prediction sets* (2021).

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.linspace(1, 0, 5) * np.ones((100, 1))
    >>> control_risk(losses, alpha=0.3)
    3
    >>> control_risk(losses, alpha=0.3, delta=0.01)
    4
    """
    table = _table(losses, bound)
    level = miscoverage(alpha)
    increases = np.argwhere(np.diff(table, axis=1) > _ROUNDING)
    if len(increases):
        row, column = increases[0].tolist()
        raise ValueError(
            f"losses must not increase along a row, got {table[row, column]} and {table[row, column + 1]} in row {row} "
            f"from column {column} on: order the thresholds from the least conservative, or use learn_then_test"
        )
    if delta is None:
        most = level * (len(table) + 1) - 1
        controlled = table.sum(axis=0) <= _at_most(most)
    else:
        controlled = _p_values(table, level) <= _at_most(miscoverage(delta, "delta"))
    run = np.logical_and.accumulate(controlled[::-1])
    return table.shape[1] - int(np.count_nonzero(run)) if run[0] else None


def learn_then_test(losses: Array, /, *, alpha: Alpha, delta: Alpha, bound: float = 1.0) -> NDArray[np.bool_]:
    """Thresholds that control the risk, for any losses.

    Parameters
    ----------
    losses : array, shape (N, L)
        Losses in [0, bound], in any order.
    alpha
        Largest risk as a fraction of ``bound``, in (0, 1).
    delta
        Largest probability, over calibration sets, that one of the returned thresholds has a larger risk, in (0, 1).
    bound
        Largest possible loss, positive.

    Returns
    -------
    array of bool, shape (L,)
        Whether each threshold controls the risk. Any of them may be chosen afterwards.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind or value.

    Notes
    -----
    Angelopoulos, Bates, Candès, Jordan and Lei, *Learn then test* (2021), with Bonferroni correction: the p-value of
    :func:`risk_p_values` is at most delta/L. Rows must be independent and identically distributed.

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.asarray([0.5, 0.1, 0.05, 0.4]) * np.ones((100, 1))
    >>> learn_then_test(losses, alpha=0.3, delta=0.05)
    array([False,  True,  True, False])
    """
    table = _table(losses, bound)
    corrected = miscoverage(delta, "delta") / table.shape[1]
    return np.asarray(_p_values(table, miscoverage(alpha)) <= _at_most(corrected))


def risk_p_values(losses: Array, /, *, alpha: Alpha, bound: float = 1.0) -> NDArray[np.float64]:
    """p-value of the hypothesis that the risk at a threshold exceeds ``alpha · bound``.

    Parameters
    ----------
    losses, alpha, bound
        As for :func:`learn_then_test`, as are errors.

    Returns
    -------
    array of float64, shape (L,)

    Notes
    -----
    The smaller of the p-values of Hoeffding and Bentkus: with the mean loss r,
    min(exp(−N h(min(r, α), α)), e · P(Binomial(N, α) ≤ ⌈N r⌉)), where h is the relative entropy between
    Bernoulli distributions. Valid for independent and identically distributed rows.

    Examples
    --------
    >>> import numpy as np
    >>> risk_p_values(np.asarray([[0.0, 0.5]] * 20), alpha=0.1).round(3)
    array([0.122, 1.   ])
    """
    return _p_values(_table(losses, bound), miscoverage(alpha))


def false_negative_losses(scores: Array, relevant: Array, thresholds: Array, /) -> NDArray[np.float64]:
    """Fraction of the relevant labels of each row that are outside the set {y : s(x, y) ≤ λ}, for each λ.

    Parameters
    ----------
    scores : array, shape (N, K)
        Nonconformity score of every label.
    relevant : array of bool, shape (N, K)
        Labels of the row, any number of them.
    thresholds : array, shape (L,)
        Thresholds λ, ascending.

    Returns
    -------
    array of float64, shape (N, L)
        Losses in [0, 1] for :func:`control_risk`; 0 for a row without relevant labels.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind or shape, or thresholds do not ascend.

    Examples
    --------
    >>> import numpy as np
    >>> scores, relevant = np.asarray([[0.1, 0.4, 0.8]]), np.asarray([[True, False, True]])
    >>> false_negative_losses(scores, relevant, np.asarray([0.0, 0.5, 1.0]))
    array([[1. , 0.5, 0. ]])
    """
    table, marks = to_host(as_floating("scores", scores)), to_host(relevant)
    levels = to_host(as_floating("thresholds", thresholds))
    check_finite("scores", table, np)
    if table.ndim != 2 or marks.shape != table.shape:
        raise ValueError(f"scores and relevant must have one shape (N, K), got {table.shape} and {marks.shape}")
    if marks.dtype != np.bool_:
        raise TypeError(f"relevant must hold booleans, got {marks.dtype}")
    if levels.ndim != 1:
        raise ValueError(f"thresholds must have shape (L,), got {levels.shape}")
    descents = np.flatnonzero(~(np.diff(levels) >= 0))
    if len(descents):
        first = int(descents[0])
        raise ValueError(f"thresholds must ascend, got {levels[first + 1]} after {levels[first]}")
    count = marks.sum(axis=1)
    missed = np.stack([(marks & (table > level)).sum(axis=1) for level in levels], axis=1)
    return np.asarray(missed / np.maximum(count, 1)[:, None])


def _table(losses: Array, bound: float) -> NDArray[np.float64]:
    if not check_finite_number("bound", bound) > 0:
        raise ValueError(f"bound must be positive, got {bound}")
    table = to_host(as_floating("losses", losses)).astype(np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"losses must have shape (N, L) with N, L >= 1, got {table.shape}")
    check_finite("losses", table, np)
    if table.min() < 0 or table.max() > bound:
        raise ValueError(f"losses must lie in [0, {bound}], got {table.min()} to {table.max()}")
    return table / bound


def _p_values(table: NDArray[np.float64], alpha: Fraction) -> NDArray[np.float64]:
    n, a = len(table), float(alpha)
    total = table.sum(axis=0)  # exact for losses of 0 and 1, so rounding adds no one to ⌈N r⌉
    mean = np.minimum(total / n, a)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(mean > 0, mean * np.log(mean / a), 0.0) + (1 - mean) * np.log1p((a - mean) / (1 - a))
    bentkus = np.e * _binomial_cdf(n, a)[np.ceil(total).astype(np.int64)]
    return np.asarray(np.minimum(np.exp(-n * entropy), bentkus))


def _binomial_cdf(n: int, p: float) -> NDArray[np.float64]:
    k = np.arange(n)
    steps = np.log((n - k) / (k + 1)) + np.log(p) - np.log1p(-p)  # of the logarithm from k to k + 1
    logarithms = n * np.log1p(-p) + np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(np.minimum(np.cumsum(np.exp(logarithms)), 1.0))


def _at_most(limit: Fraction) -> float:
    """Return the largest float that does not exceed a limit."""
    nearest = float(limit)
    return nearest if Fraction(nearest) <= limit else float(np.nextafter(nearest, -np.inf))


def benjamini_hochberg(p_values: Array, /, *, alpha: Alpha, check: bool | None = None) -> Array:
    """Select rows that are not like those of calibration, with a false discovery rate of at most ``alpha``.

    Parameters
    ----------
    p_values : array, shape (...)
        p-values of m rows, such as those of :class:`NoveltyGate`.
    alpha
        Largest expected fraction of rows like those of calibration among the selected ones, in (0, 1).
    check
        Whether to check values. If None, only if the host can read them without a sync.

    Returns
    -------
    array of bool, shape (...)

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, or a value lies outside [0, 1].

    Notes
    -----
    Selected are the k smallest p-values, for the largest k at which the k-th is at most αk/m; Benjamini and Hochberg,
    *Controlling the false discovery rate* (1995). p-values from one calibration set may be used if they are not
    smoothed: Bates et al., *Testing for outliers with conformal p-values* (2023). O(m log m).

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
