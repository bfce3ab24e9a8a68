"""Quantiles and p-values under covariate shift: calibration rows weighted by their likelihood ratio."""

import math
from typing import Any, Literal

from conformal_core._arrays import array_namespace, device
from conformal_core._convert import as_draws, as_floating
from conformal_core.checks import check_finite, is_checked
from conformal_core.quantile import Alpha, miscoverage
from conformal_core.sets import in_coarser_precision

Array = Any

_EXACT = 2.0**53  # whole numbers up to here are exact in float64


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
    TypeError, ValueError
        If an argument has the wrong kind, library, shape or range.

    Notes
    -----
    Guarantee: with the likelihood ratios as weights, 1 − α ≤ P(new ≤ q̂) on the test distribution; with estimated
    ratios there is none. Tibshirani, Barber, Candès and Ramdas, *Conformal prediction under covariate shift* (2019),
    corollary 1.

    With equal weights it is :func:`conformal_quantile`. Sums are rounded such that the threshold is never too low.
    O(N log N), and O(log N) for each of many test rows.

    Examples
    --------
    >>> import numpy as np
    >>> weighted_conformal_quantile(np.asarray([1.0, 2.0, 3.0]), np.ones(3), np.asarray([1.0, 3.0]), alpha=0.25)
    array([ 3., inf])
    """
    level = miscoverage(alpha)
    xp, scores, weights, test_weights = _checked("scores", scores, weights, test_weights, check)
    if scores.ndim == 0:
        raise ValueError("scores must have shape (..., N), got a scalar")
    ordered, mass, total, whole = _cumulated(scores, weights, test_weights, xp)
    # The level is multiplied out, Σ · den ≥ (den − num) · total, so whole weights are compared exactly.
    rounding = _rounding(total, scores.shape[-1], whole & (total * float(level.denominator) < _EXACT), xp)
    wanted = (total + rounding) * float(level.denominator - level.numerator)
    mass = mass * float(level.denominator)
    if scores.ndim == 1:
        below = xp.reshape(xp.searchsorted(mass, xp.reshape(wanted, (-1,)), side="left"), wanted.shape)
        ordered = xp.concat([ordered, xp.full((1,), math.inf, dtype=scores.dtype, device=device(scores))])
        return xp.reshape(xp.take(ordered, xp.reshape(below, (-1,))), wanted.shape)
    below = xp.sum(xp.astype(mass < wanted[..., None], xp.int64), axis=-1, keepdims=True)
    endless = xp.full((*ordered.shape[:-1], 1), math.inf, dtype=scores.dtype, device=device(scores))
    return xp.take_along_axis(xp.concat([ordered, endless], axis=-1), below, axis=-1)[..., 0]


def weighted_p_values(
    calibration_scores: Array,
    weights: Array,
    scores: Array,
    test_weights: Array | float,
    /,
    *,
    u: Array | float | None = None,
    check: bool | None = None,
) -> Array:
    """p-values under covariate shift, with rows weighted by their likelihood ratio.

    Parameters
    ----------
    calibration_scores : array, shape (N,)
        Finite.
    weights : array, broadcast to shape (N,)
        As for :func:`weighted_conformal_quantile`.
    scores : array, any shape
        Scores to compare, for example (..., K), finite.
    test_weights : array or float
        The same ratio of the test rows, broadcast against ``scores``: (..., 1) for one weight a row of labels.
    u : array or float in [0, 1], optional
        Uniform draws, broadcast against ``scores``, that smooth ties. If None, p-values are not smoothed.
    check
        Whether to check the range of values. If None, only if the host can read them without a sync.

    Returns
    -------
    array of float64, shape of ``scores``
        p = (Σ_{sᵢ ≥ s} wᵢ + w)/(Σ wᵢ + w), or smoothed (Σ_{sᵢ > s} wᵢ + u (Σ_{sᵢ = s} wᵢ + w))/(Σ wᵢ + w); 1 if all
        weights are 0.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, library, shape or range.

    Notes
    -----
    Not smoothed, p > α exactly when the score is at most :func:`weighted_conformal_quantile` at α. With equal weights
    these are :func:`p_values`. Time O((N + m) log N).

    Examples
    --------
    >>> import numpy as np
    >>> weighted_p_values(np.asarray([1.0, 2.0, 3.0]), np.asarray([1.0, 1.0, 2.0]), np.asarray([2.5, 4.0]), 1.0)
    array([0.6, 0.2])
    """
    xp, known, weights, test_weights = _checked("calibration_scores", calibration_scores, weights, test_weights, check)
    scores = as_floating("scores", scores, known)
    array_namespace(calibration_scores=known, scores=scores)
    check_finite("scores", scores, xp, check=check)
    if known.ndim != 1:
        raise ValueError(f"calibration_scores must have shape (N,), got {tuple(known.shape)}")
    shape = tuple(scores.shape)
    test_weights = _broadcast("test_weights", test_weights, shape, xp)
    known, scores = in_coarser_precision(known, scores)
    ordered, mass, total, whole = _cumulated(known, weights, test_weights, xp)
    mass = xp.concat([xp.zeros((1,), dtype=xp.float64, device=device(mass)), mass])

    def below(side: Literal["left", "right"]) -> Array:
        places = xp.searchsorted(ordered, xp.reshape(scores, (-1,)), side=side)
        return xp.reshape(xp.take(mass, places), shape)

    smaller, one = below("left"), xp.ones_like(total)
    rounding = _rounding(total, known.shape[0], whole & (total < _EXACT), xp)
    raised = xp.where(total > 0, total + rounding, one)
    p = (raised - smaller) / raised
    if u is not None:
        equal, draws = below("right") - smaller, as_draws(u, shape, xp.asarray(total), check=check)
        own = total - mass[-1]
        p = (total - own - smaller - equal + draws * (equal + own)) / xp.where(total > 0, total, one)
    return xp.where(total > 0, p, one)


def _checked(name: str, scores: Array, weights: Array, test_weights: Array | float, check: bool | None) -> Any:
    """Return the namespace of checked arrays, the arrays, and weights (..., N) in double precision."""
    scores = as_floating(name, scores)
    weights = as_floating("weights", weights, scores)
    test_weights = as_floating("test_weights", test_weights, scores)
    xp = array_namespace(**{name: scores, "weights": weights, "test_weights": test_weights})
    for argument, array in ((name, scores), ("weights", weights), ("test_weights", test_weights)):
        if is_checked(array, check):
            check_finite(argument, array, xp)
            if argument != name and bool(xp.any(array < 0)):
                raise ValueError(f"{argument} must be at least 0, got {float(xp.min(array))}")
    weights = xp.astype(_broadcast("weights", weights, tuple(scores.shape), xp), xp.float64)
    return xp, scores, weights, xp.astype(test_weights, xp.float64)


def _broadcast(name: str, weights: Array, shape: tuple[int, ...], xp: Any) -> Array:
    try:
        return xp.broadcast_to(weights, shape)
    except (ValueError, RuntimeError):
        raise ValueError(f"{name} must broadcast to shape {shape}, got {tuple(weights.shape)}") from None


def _cumulated(scores: Array, weights: Array, test_weights: Array, xp: Any) -> tuple[Array, Array, Array, Array]:
    """Return sorted scores, their cumulated weights, the total of each test row, and whether all are whole numbers.

    Weights that are not whole are divided by the largest, so no sum overflows.
    """
    largest = xp.maximum(_largest(weights, xp), _largest(test_weights, xp))
    whole = _are_whole(weights, xp) & _are_whole(test_weights, xp) & (largest < _EXACT)
    divisor = xp.where(whole | (largest == 0), xp.ones_like(largest), largest)
    weights, test_weights = weights / divisor, test_weights / divisor
    order = xp.argsort(scores, axis=-1, stable=True)
    mass = xp.cumulative_sum(xp.take_along_axis(weights, order, axis=-1), axis=-1)
    total = xp.sum(weights, axis=-1) + test_weights
    whole = _are_whole(weights, xp) & _are_whole(test_weights, xp)
    return xp.take_along_axis(scores, order, axis=-1), mass, total, whole


def _rounding(total: Array, count: int, exact: Array, xp: Any) -> Array:
    """Return a bound of the rounding error of a sum of ``count`` weights; 0 where it is exact."""
    return xp.where(exact, xp.zeros_like(total), total * ((count + 8) * 2.0**-50))


def _are_whole(weights: Array, xp: Any) -> Array:
    return xp.all(xp.floor(weights) == weights)


def _largest(weights: Array, xp: Any) -> Array:
    return xp.max(weights) if math.prod(weights.shape) else xp.zeros((), dtype=xp.float64, device=device(weights))
