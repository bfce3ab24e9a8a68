"""Conformal quantiles: order statistics of calibration scores at an exact rank."""

import math
import warnings
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, device, is_torch, reads_values
from conformal_core._checks import is_finite, is_floating
from conformal_core._rank import miscoverage, quantile_rank

Array = Any
Level = float | Decimal | Fraction


def conformal_quantile(scores: Array, /, *, alpha: Level | Sequence[Level], check: bool | None = None) -> Array:
    """Threshold q̂ that a new score stays below with probability at least 1 − α.

    q̂ is the k-th smallest of the N scores, k = ⌈(N + 1)(1 − α)⌉ exactly, and +∞ when N is too small for α.

    Parameters
    ----------
    scores : array, shape (..., N)
        Calibration scores, finite.
    alpha
        Miscoverage in (0, 1), or a sequence of A of them.
    check
        Whether to look for scores that are not finite. None: only where the host can read them at once.

    Returns
    -------
    array, shape (...)
        Same library, dtype and device as ``scores``; shape (A, ...) for a sequence of levels.

    Raises
    ------
    TypeError
        If ``scores`` is not an array of real floating-point numbers.
    ValueError
        If ``scores`` has no axis, holds NaN or ±∞ (the first index is named), or ``alpha`` lies outside (0, 1).

    Warns
    -----
    UserWarning
        If N is too small: the message names N and the smallest usable α.

    Notes
    -----
    If the N scores and the new one are exchangeable, 1 − α ≤ P(new ≤ q̂), and P(new ≤ q̂) ≤ 1 − α + 1/(N + 1) without ties.

    Examples
    --------
    >>> import numpy as np
    >>> conformal_quantile(np.arange(1.0, 41.0), alpha=0.2)
    array(33.)
    """
    xp = array_namespace(scores=scores)
    is_floating("scores", scores, xp)
    if scores.ndim == 0:
        raise ValueError("scores must have shape (..., N), got a scalar")
    if isinstance(alpha, (Sequence, np.ndarray)):
        levels = [miscoverage(level) for level in alpha]
        return xp.stack([conformal_quantile(scores, alpha=level, check=check) for level in levels])
    n = scores.shape[-1]
    k = quantile_rank(n, alpha)
    if reads_values(scores, check):
        is_finite("scores", scores, xp)
    if k is None:
        warn_too_few(n)
        return xp.full(scores.shape[:-1], math.inf, dtype=scores.dtype, device=device(scores))
    return kth_smallest(scores, k, xp)


def kth_smallest(scores: Array, k: int, xp: Any) -> Array:
    """Return the k-th smallest score (one-based) over the last axis, without a quantile's interpolation or size limit."""
    if isinstance(scores, np.ndarray):
        return np.asarray(np.partition(scores, k - 1, axis=-1)[..., k - 1])
    if is_torch(scores):
        return scores.kthvalue(k, dim=-1).values
    return xp.sort(scores, axis=-1, stable=False)[..., k - 1]


def warn_too_few(n: int) -> None:
    """Say that n scores are too few for the level asked for."""
    warnings.warn(
        f"{n} calibration scores are too few for this alpha: the threshold is +inf and every set is full; "
        f"the smallest usable alpha is {'none' if n == 0 else f'1/{n + 1} = {1 / (n + 1):.6g}'}",
        UserWarning,
        stacklevel=3,
    )
