"""Conformal quantiles: order statistics of calibration scores at an exact rank."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, device, is_torch
from conformal_core._convert import as_floating
from conformal_core._rank import Alphas, miscoverages, rank
from conformal_core._warnings import warn
from conformal_core.checks import check_finite

Array = Any

# Torch selects by one block of threads a row there: on an H100 a row of 10⁴ takes .055 ms and sorting it .081, one of
# 10⁶ takes 5.2 and .12, one of 10⁸ 729 and 5.0.
_SORTED_ON_A_DEVICE = 20_000


def conformal_quantile(scores: Array, /, *, alpha: Alphas, check: bool | None = None) -> Array:
    """Threshold q̂ that a new score does not exceed with probability at least 1 − α.

    q̂ is the k-th smallest of the N scores, k = ⌈(N + 1)(1 − α)⌉ exactly, and +∞ if N is too small for α.

    Parameters
    ----------
    scores : array, shape (..., N)
        Calibration scores, finite.
    alpha
        Miscoverage in (0, 1), or a sequence of A of them.
    check
        Whether to check that scores are finite. If None, only if the host can read them without a sync.

    Returns
    -------
    array, shape (...)
        Same library, dtype and device as ``scores``; shape (A, ...) for a sequence of levels.

    Raises
    ------
    TypeError
        If ``scores`` is not an array of real floating-point numbers.
    ValueError
        If ``scores`` has no axis, contains NaN or ±∞, or ``alpha`` lies outside (0, 1).

    Warns
    -----
    UserWarning
        If N is too small; the message gives N and the smallest usable α.

    Notes
    -----
    If the N scores and the new one are exchangeable, 1 − α ≤ P(new ≤ q̂), and P(new ≤ q̂) ≤ 1 − α + 1/(N + 1) without
    ties.

    Examples
    --------
    >>> import numpy as np
    >>> conformal_quantile(np.arange(1.0, 41.0), alpha=0.2)
    array(33.)
    """
    scores = as_floating("scores", scores)
    xp = array_namespace(scores=scores)
    if scores.ndim == 0:
        raise ValueError("scores must have shape (..., N), got a scalar")
    level = miscoverages(alpha)
    if isinstance(level, tuple):
        return xp.stack([conformal_quantile(scores, alpha=one, check=check) for one in level])
    n = scores.shape[-1]
    k = rank(n, level)
    check_finite("scores", scores, xp, check=check)
    if k > n:
        warn_too_few(n, level)
        return xp.full(scores.shape[:-1], math.inf, dtype=scores.dtype, device=device(scores))
    return kth_smallest(scores, k, xp)


def kth_smallest(scores: Array, k: int, xp: Any) -> Array:
    """Return the k-th smallest score (one-based) over the last axis, without interpolation or limit of size."""
    if isinstance(scores, np.ndarray):
        return np.asarray(np.partition(scores, k - 1, axis=-1)[..., k - 1])
    if is_torch(scores) and (scores.device.type == "cpu" or scores.shape[-1] < _SORTED_ON_A_DEVICE):
        return scores.kthvalue(k, dim=-1).values
    return xp.sort(scores, axis=-1, stable=False)[..., k - 1]


def warn_too_few(n: int, alpha: Fraction, effect: str = "every set is full") -> None:
    """Warn that n calibration scores are too few for alpha, and what follows."""
    scores = "1 calibration score is" if n == 1 else f"{n} calibration scores are"
    cure = f"the smallest usable alpha is 1/{n + 1} = {1 / (n + 1):.6g}" if n else "calibrate first"
    cure = cure if rank(n, alpha) > n else "their weights are too small"  # as in `Exponential`
    warn(f"{scores} too few for alpha = {float(alpha):.6g}: the threshold is +inf and {effect}; {cure}")


def sorted_by_group(scores: Array, groups: Array, count: int) -> tuple[Array, list[int]]:
    """Sort valid scores (N,) within each of ``count`` groups, with one synchronisation.

    ``groups`` (N,) are int64 in 0..count − 1. Returns the scores, group after group, and the count + 1 places where
    groups start and the last one ends.
    """
    xp = array_namespace(scores=scores, groups=groups)
    order = xp.argsort(scores, stable=False)
    order = xp.take(order, xp.argsort(xp.take(groups, order), stable=True))
    edges = xp.searchsorted(xp.take(groups, order), xp.arange(count + 1, device=device(scores)), side="left")
    return xp.take(scores, order), [int(edge) for edge in edges]


def grouped_quantiles(ordered: Array, starts: Sequence[int], alpha: Fraction) -> Array:
    """Threshold of each group of :func:`sorted_by_group`, +∞ for one with too few scores."""
    xp = array_namespace(scores=ordered)
    endless = ordered.shape[0]
    places = []
    for start, end in pairwise(starts):
        k = rank(end - start, alpha)
        places.append(start + k - 1 if k <= end - start else endless)
    ordered = xp.concat([ordered, xp.full((1,), math.inf, dtype=ordered.dtype, device=device(ordered))])
    return xp.take(ordered, xp.asarray(places, dtype=xp.int64, device=device(ordered)))
