"""Conformal quantiles: order statistics of calibration scores at an exact rank."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, device, is_torch
from conformal_core._convert import as_floating
from conformal_core._rank import Alpha, miscoverage, rank
from conformal_core._warnings import warn
from conformal_core.checks import check_finite, is_checked

Array = Any

# Torch selects by one block of threads a row there: on an H100 a row of 10⁴ takes .055 ms and sorting it .081, one of
# 10⁶ takes 5.2 and .12, one of 10⁸ 729 and 5.0.
_SORTED_ON_A_DEVICE = 20_000
_EXACT = 2.0**53  # whole numbers up to here are exact in float64


def conformal_quantile(scores: Array, /, *, alpha: Alpha | Sequence[Alpha], check: bool | None = None) -> Array:
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
    if isinstance(alpha, np.ndarray) and alpha.ndim == 0:
        alpha = alpha[()]
    if isinstance(alpha, (Sequence, np.ndarray)) and not isinstance(alpha, str):
        levels = [miscoverage(level) for level in alpha]
        if not levels:
            raise ValueError("alpha must hold at least one level, got none")
        return xp.stack([conformal_quantile(scores, alpha=level, check=check) for level in levels])
    n, level = scores.shape[-1], miscoverage(alpha)
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


def weighted_conformal_quantile(
    scores: Array, weights: Array, test_weights: Array | float, /, *, alpha: Alpha, check: bool | None = None
) -> Array:
    """Threshold under covariate shift, with calibration rows weighted by their likelihood ratio.

    q̂ is the smallest score s with Σ_{sᵢ ≤ s} wᵢ ≥ (1 − α)(Σ wᵢ + w), where w is the weight of the test row, and +∞ if
    there is none.

    Parameters
    ----------
    scores : array, shape (..., N)
        Calibration scores, finite.
    weights : array, broadcast to shape (..., N)
        Likelihood ratio dP_test/dP_calibration of each calibration row up to a common factor, at least 0.
    test_weights : array or float
        The same ratio of the test rows: any shape for scores (N,), else broadcast against (...).
    alpha
        Miscoverage in (0, 1).
    check
        Whether to check the range of values. If None, only if the host can read them without a sync.

    Returns
    -------
    array, shape of ``test_weights`` or (...)
        Same library, dtype and device as ``scores``.

    Raises
    ------
    TypeError
        If an argument is not an array of real floating-point numbers, or the libraries differ.
    ValueError
        If a score is not finite, a weight is negative or not finite, shapes do not fit, or ``alpha`` lies outside (0,
        1).

    Notes
    -----
    Guarantee: if the weights are the likelihood ratios, up to a common factor, 1 − α ≤ P(new ≤ q̂) on the test
    distribution; with estimated ratios there is none. Tibshirani, Barber, Candès and Ramdas, *Conformal prediction
    under covariate shift* (2019), corollary 1.

    With equal weights it is :func:`conformal_quantile`. Weights are summed in float64: exactly where they are whole
    numbers; otherwise the weight of the test row is raised by the rounding error of the sum, so the threshold is
    never below that of exact arithmetic. O(N log N), and O(log N) for each of many test rows.

    Examples
    --------
    >>> import numpy as np
    >>> weighted_conformal_quantile(np.asarray([1.0, 2.0, 3.0]), np.ones(3), np.asarray([1.0, 3.0]), alpha=0.25)
    array([ 3., inf])
    """
    level = miscoverage(alpha)
    scores = as_floating("scores", scores)
    weights = as_floating("weights", weights, scores)
    test_weights = as_floating("test_weights", test_weights, scores)
    xp = array_namespace(scores=scores, weights=weights, test_weights=test_weights)
    for name, array in (("scores", scores), ("weights", weights), ("test_weights", test_weights)):
        if is_checked(array, check):
            check_finite(name, array, xp)
            if name != "scores" and bool(xp.any(array < 0)):
                raise ValueError(f"{name} must be at least 0, got {float(xp.min(array))}")
    if scores.ndim == 0:
        raise ValueError("scores must have shape (..., N), got a scalar")
    try:
        weights = xp.astype(xp.broadcast_to(weights, scores.shape), xp.float64)
    except (ValueError, RuntimeError):
        raise ValueError(f"weights must broadcast to shape {tuple(scores.shape)}, got {tuple(weights.shape)}") from None
    order = xp.argsort(scores, axis=-1, stable=True)
    ordered = xp.take_along_axis(scores, order, axis=-1)
    weights, test_weights = _scaled(weights, xp.astype(test_weights, xp.float64), xp)
    # The level is multiplied out, Σ · den ≥ (den − num) · total, so whole weights are compared exactly.
    mass = xp.cumulative_sum(xp.take_along_axis(weights, order, axis=-1), axis=-1)
    total = xp.sum(weights, axis=-1) + test_weights
    exact = _are_whole(weights, xp) & _are_whole(test_weights, xp) & (total * float(level.denominator) < _EXACT)
    rounding = xp.where(exact, xp.zeros_like(total), total * ((scores.shape[-1] + 8) * 2.0**-50))
    wanted = (total + rounding) * float(level.denominator - level.numerator)
    mass = mass * float(level.denominator)
    if scores.ndim == 1:
        below = xp.reshape(xp.searchsorted(mass, xp.reshape(wanted, (-1,)), side="left"), wanted.shape)
        ordered = xp.concat([ordered, xp.full((1,), math.inf, dtype=scores.dtype, device=device(scores))])
        return xp.reshape(xp.take(ordered, xp.reshape(below, (-1,))), wanted.shape)
    below = xp.sum(xp.astype(mass < wanted[..., None], xp.int64), axis=-1, keepdims=True)
    endless = xp.full((*ordered.shape[:-1], 1), math.inf, dtype=scores.dtype, device=device(scores))
    return xp.take_along_axis(xp.concat([ordered, endless], axis=-1), below, axis=-1)[..., 0]


def _scaled(weights: Array, test_weights: Array, xp: Any) -> tuple[Array, Array]:
    """Divide all weights by the largest, unless they are whole: equal ones become 1, and no sum overflows."""
    largest = xp.maximum(_largest(weights, xp), _largest(test_weights, xp))
    whole = _are_whole(weights, xp) & _are_whole(test_weights, xp) & (largest < _EXACT)
    divisor = xp.where(whole | (largest == 0), xp.ones_like(largest), largest)
    return weights / divisor, test_weights / divisor


def _are_whole(weights: Array, xp: Any) -> Array:
    return xp.all(xp.floor(weights) == weights)


def _largest(weights: Array, xp: Any) -> Array:
    return xp.max(weights) if math.prod(weights.shape) else xp.zeros((), dtype=xp.float64, device=device(weights))


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
