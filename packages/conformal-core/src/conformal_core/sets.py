"""Prediction sets, their sizes, ranks of labels, and p-values."""

from typing import Any, Literal

import numpy as np

from conformal_core._arrays import array_namespace, device, is_torch, rounded_down, rounded_up
from conformal_core._convert import as_booleans, as_draws, as_floating, as_labels, as_rows, as_threshold
from conformal_core.checks import check_finite

Array = Any


def prediction_set(
    scores: Array, qhat: Array | float, /, *, nonempty: bool = False, check: bool | None = None
) -> Array:
    """Set of the labels whose score does not exceed the threshold.

    Parameters
    ----------
    scores : array, shape (..., K)
        Nonconformity score of every label, finite.
    qhat : array or float, broadcast against shape (...)
        Threshold; +∞ gives the full set, −∞ the empty set.
    nonempty
        Add the label with the smallest score (the first of several) to empty sets.
    check
        Whether to check scores. If None, only if the host can read them without a sync.

    Returns
    -------
    array of bool, shape (..., K)

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, library, shape or range.

    Notes
    -----
    C(x) = {y : s(x, y) ≤ q̂}. Scores and thresholds of different precision are compared in the coarser one, such that
    rounding never removes a label. A set is empty if every score exceeds the threshold.

    Examples
    --------
    >>> import numpy as np
    >>> prediction_set(np.asarray([0.2, 0.7, 0.9]), 0.7)
    array([ True,  True, False])
    """
    xp, scores, qhat = _scores_and_threshold(scores, qhat, check)
    inside = scores <= qhat[..., None]
    return with_top(inside, scores, xp) if nonempty else inside


def set_size(sets: Array, /) -> Array:
    """Count the labels in each set.

    Parameters
    ----------
    sets : array of bool, shape (..., K)

    Returns
    -------
    array of int, shape (...)

    Raises
    ------
    TypeError, ValueError
        If ``sets`` is not such an array.

    Examples
    --------
    >>> import numpy as np
    >>> set_size(np.asarray([[True, False, True], [False, False, False]]))
    array([2, 0])
    """
    sets, xp = as_booleans("sets", sets)
    if sets.ndim == 0:
        raise ValueError("sets must have shape (..., K), got a scalar")
    return xp.sum(xp.astype(sets, xp.int64), axis=-1)


def rank_reliability(
    scores: Array,
    labels: Array,
    qhat: Array | float,
    /,
    *,
    kind: Literal["normalized", "reciprocal"] = "normalized",
    check: bool | None = None,
) -> Array:
    """Rank of a label in its prediction set, from 1 for the first towards 0 for the last, and 0 outside.

    Parameters
    ----------
    scores : array, shape (..., K)
        Nonconformity score of every label, finite.
    labels : array of int, broadcast to shape (...)
        Labels in 0..K−1.
    qhat : array or float, broadcast against shape (...)
        Threshold of the set.
    kind
        ``"normalized"``: ``1 − rank/|C|``. ``"reciprocal"``: 1/(rank + 1). Both are 0 if the label is not in C.
    check
        Whether to check scores and labels. If None, only if the host can read them without a sync. With False the
        function compiles into one graph.

    Returns
    -------
    array, shape (...)
        Reliability in ``{0} ∪ [1/|C|, 1]``, same dtype as ``scores``; it is positive exactly when the label is in C.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, library, shape or range.

    Notes
    -----
    rank is zero-based: the number of labels with a strictly smaller score, so tied labels share the better rank.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.asarray([[0.2, 0.7, 0.9], [0.2, 0.7, 0.9], [0.2, 0.7, 0.9]])
    >>> rank_reliability(scores, np.asarray([0, 1, 2]), 0.8)
    array([1. , 0.5, 0. ])
    """
    if kind not in ("normalized", "reciprocal"):
        raise ValueError(f"kind must be 'normalized' or 'reciprocal', got {kind!r}")
    xp, scores, qhat = _scores_and_threshold(scores, qhat, check)
    own = take_label(scores, as_labels(labels, scores, check=check))
    rank = _count(scores < own[..., None], scores.dtype, xp)
    if kind == "reciprocal":
        value = 1.0 / (rank + 1.0)
    else:
        size = _count(scores <= qhat[..., None], scores.dtype, xp)
        # The label is outside an empty set, so any finite quotient will do.
        value = 1.0 - rank / xp.where(size > 0, size, xp.ones_like(size))
    return xp.where(own <= qhat, value, xp.zeros_like(value))


def _count(mask: Array, dtype: Any, xp: Any) -> Array:
    if isinstance(mask, np.ndarray) and mask.shape[-1] < 1 << 24:
        # A product in single precision counts exactly up to here, and several times faster than a sum.
        rows = mask.reshape(-1, mask.shape[-1]).astype(np.float32)
        return (rows @ np.ones(mask.shape[-1], dtype=np.float32)).astype(dtype).reshape(mask.shape[:-1])
    return xp.sum(xp.astype(mask, dtype), axis=-1)


def with_top(inside: Array, scores: Array, xp: Any) -> Array:
    """Add the label with the smallest score (the first of several) to the sets that are empty."""
    classes = xp.arange(scores.shape[-1], device=device(scores))
    top = xp.argmin(scores, axis=-1, keepdims=True) == classes
    return inside | (top & ~xp.any(inside, axis=-1, keepdims=True))


def take_label(values: Array, labels: Array) -> Array:
    """Values of the labels: ``values[..., labels]`` for values (..., K) and checked labels (...)."""
    if isinstance(values, np.ndarray):
        if values.ndim == 1:
            return values[labels]
        rows = values.reshape(-1, values.shape[-1])
        return rows[np.arange(len(rows)), labels.reshape(-1)].reshape(labels.shape)
    return array_namespace(values=values).take_along_axis(values, labels[..., None], axis=-1)[..., 0]


def p_values(
    calibration_scores: Array, scores: Array, /, *, u: Array | float | None = None, check: bool | None = None
) -> Array:
    """Conformal p-value of every score: the fraction of calibration scores at least as large.

    Parameters
    ----------
    calibration_scores : array, shape (N,)
        Finite; N = 0 gives p = 1.
    scores : array, any shape
        Scores to compare, for example (..., K), finite.
    u : array or float in [0, 1], optional
        Uniform draws, broadcast against ``scores``, that smooth ties. If None, p-values are not smoothed.
    check
        Whether to check scores and draws. If None, only if the host can read them without a sync.

    Returns
    -------
    array of float64, shape of ``scores``
        p = (#{sᵢ ≥ s} + 1)/(N + 1), or smoothed (#{sᵢ > s} + u (#{sᵢ = s} + 1))/(N + 1).

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, library, shape or range.

    Notes
    -----
    Not smoothed, a label is in the set at level α exactly when p > α, also at the boundary and for scores of different
    precision. Smoothed p-values are uniform on exchangeable data; the others are at least as large. Vovk, Gammerman and
    Shafer (2005). Time O((N + m) log N).

    Examples
    --------
    >>> import numpy as np
    >>> p_values(np.asarray([0.3, 0.4, 0.5, 0.6, 0.7]), np.asarray([0.55]), u=0.25)
    array([0.375])
    """
    calibration_scores = as_floating("calibration_scores", calibration_scores)
    scores = as_floating("scores", scores, calibration_scores)
    xp = array_namespace(calibration_scores=calibration_scores, scores=scores)
    for name, array in (("calibration_scores", calibration_scores), ("scores", scores)):
        check_finite(name, array, xp, check=check)
    if calibration_scores.ndim != 1:
        raise ValueError(f"calibration_scores must have shape (N,), got {tuple(calibration_scores.shape)}")
    return sorted_p_values(xp.sort(calibration_scores, stable=False), scores, u, check=check)


def sorted_p_values(ordered: Array, scores: Array, u: Array | float | None, *, check: bool | None) -> Array:
    """p-values against sorted calibration scores."""
    xp = array_namespace(ordered=ordered, scores=scores)
    ordered, scores = in_coarser_precision(ordered, scores)
    n = ordered.shape[0]
    # A divisor on the device: some libraries turn division by a host number into a product with its rounded reciprocal,
    # and then p = 1/20 would differ from 0.05.
    total = xp.asarray(float(n + 1), dtype=xp.float64, device=device(scores))
    at_least = xp.asarray(n - xp.searchsorted(ordered, scores, side="left"))  # numpy makes a scalar of a 0-d array
    if u is None:
        return xp.astype(at_least + 1, xp.float64) / total
    above = xp.asarray(n - xp.searchsorted(ordered, scores, side="right"))
    return smoothed(xp.astype(above, xp.float64), xp.astype(at_least, xp.float64), u, total, check=check)


def in_coarser_precision(known: Array, scores: Array) -> tuple[Array, Array]:
    """Return both in the coarser precision for a binary search, calibration scores rounded up and scores down."""
    scores = scores.contiguous() if is_torch(scores) else scores
    if known.dtype == scores.dtype:
        return known, scores
    xp = array_namespace(known=known, scores=scores)
    coarser = max(known.dtype, scores.dtype, key=lambda dtype: float(xp.finfo(dtype).eps))
    return rounded_up(known, coarser), rounded_down(scores, coarser)


def smoothed(above: Array, at_least: Array, u: Array | float, total: Array, *, check: bool | None) -> Array:
    """Smoothed p-values from the weights of larger scores and of those at least as large; the new row has weight 1."""
    return (above + as_draws(u, tuple(above.shape), above, check=check) * (at_least - above + 1.0)) / total


def _scores_and_threshold(scores: Array, qhat: Array | float, check: bool | None) -> tuple[Any, Array, Array]:
    scores = as_rows("scores", scores)
    xp = array_namespace(scores=scores)
    check_finite("scores", scores, xp, check=check)
    return xp, scores, as_threshold(qhat, tuple(scores.shape[:-1]), scores, check=check)
