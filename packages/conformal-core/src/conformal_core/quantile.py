"""Conformal quantiles: order statistics of calibration scores at an exact rank, computed in integer arithmetic."""

import math
import numbers
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import numpy as np

from conformal_core._arrays import array_namespace, device, is_torch
from conformal_core._convert import as_floating
from conformal_core.checks import check_finite

Alpha = float | Decimal | Fraction | str
Alphas = Alpha | Sequence[Alpha] | np.ndarray[Any, Any]

_WRITTEN = re.compile(r"[0-9.]{1,40}(e-?[0-9]{1,3})?|[0-9]{1,40}/[0-9]{1,40}", re.IGNORECASE)

_WRITTEN_FLOAT = 17  # characters of a double with 15 digits; rounding shows from the 16th digit on

Array = Any
# Torch selects by one block of threads a row there: on an H100 a row of 10⁴ takes .055 ms and sorting it .081, one of
# 10⁶ takes 5.2 and .12, one of 10⁸ 729 and 5.0.
_SORTED_ON_A_DEVICE = 20_000


def as_fraction(alpha: Alpha, name: str = "alpha") -> Fraction:
    """Return the number that ``alpha`` is written as, exactly: the float 0.1 means one tenth.

    A float with more digits than its type resolves, such as 1 − 0.9, means the simple fraction within its rounding
    error.
    """
    if isinstance(alpha, str):
        return _as_written(alpha, name)
    if isinstance(alpha, np.ndarray) and alpha.ndim == 0:
        alpha = alpha[()]
    if isinstance(alpha, (list, tuple, np.ndarray)):
        raise TypeError(
            f"{name} must be one real number, got {type(alpha).__name__}: use one predictor for each {name}"
        )
    if isinstance(alpha, bool) or not isinstance(alpha, (numbers.Real, Decimal)):
        raise TypeError(f"{name} must be a real number, or text such as '1/10', got {type(alpha).__name__}")
    if isinstance(alpha, numbers.Rational):
        return Fraction(int(alpha.numerator), int(alpha.denominator))
    if not math.isfinite(alpha):
        raise ValueError(f"{name} must be finite, got {alpha}")
    text = str(alpha)
    if isinstance(alpha, np.floating) or (isinstance(alpha, float) and len(text) > _WRITTEN_FLOAT):
        return _without_rounding(text, alpha)
    return Fraction(text)


def _as_written(text: str, name: str) -> Fraction:
    try:
        if _WRITTEN.fullmatch(text.strip()):
            return Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError(f"{name} must be a number such as '0.1' or '1/10', got {text[:40]!r}")


def _without_rounding(text: str, alpha: float) -> Fraction:
    """Undo the rounding of arithmetic; the result differs by at most half of the machine epsilon."""
    precision = np.finfo(type(alpha) if isinstance(alpha, np.floating) else np.float64)
    exact = Fraction(text)
    if len(Decimal(text).as_tuple().digits) <= precision.precision:
        return exact
    rounding = Fraction(float(precision.eps)) / 2  # of 1 and what is subtracted from it
    simple = exact.limit_denominator(round(float(rounding) ** -0.375))  # 10⁶ for double, 500 for single precision
    return simple if simple > 0 and abs(simple - exact) <= rounding else exact


def miscoverage(alpha: Alpha, name: str = "alpha") -> Fraction:
    """Return ``alpha`` as an exact fraction or raise ValueError outside (0, 1)."""
    exact = as_fraction(alpha, name)
    if not 0 < exact.numerator < exact.denominator:  # torch 2.11 cannot trace how fractions compare
        raise ValueError(f"{name} must lie in (0, 1), got {alpha}")
    return exact


def miscoverages(alpha: Alphas, name: str = "alpha") -> Fraction | tuple[Fraction, ...]:
    """Return one level as :func:`miscoverage` does, or a sequence of them as a tuple."""
    array = isinstance(alpha, np.ndarray) and alpha.ndim > 0
    if isinstance(alpha, str) or not (array or isinstance(alpha, Sequence)):
        return miscoverage(cast("Alpha", alpha), name)
    levels = tuple(miscoverage(level, name) for level in cast("Sequence[Alpha]", alpha))
    if not levels:
        raise ValueError(f"{name} must hold at least one level, got none")
    return levels


def read_alpha(alpha: Alphas | None, confidence: Alphas | None, read: Callable[..., Any] = miscoverages) -> Any:
    """Return α = ``alpha`` or 1 − ``confidence``, exactly; TypeError unless one of the two is given."""
    if (alpha is None) == (confidence is None):
        got = "neither" if alpha is None else "both"
        raise TypeError(f"exactly one of alpha and confidence must be given, got {got}: alpha is 1 - confidence")
    if confidence is None:
        return read(alpha)
    levels = read(confidence, "confidence")
    return tuple(1 - level for level in levels) if isinstance(levels, tuple) else 1 - levels


def quantile_rank(n: int, /, *, alpha: Alpha) -> int | None:
    """Rank of the calibration score that bounds a prediction set: k = ⌈(n + 1)(1 − α)⌉, one-based.

    Parameters
    ----------
    n
        Number of calibration scores, at least 0.
    alpha
        Miscoverage in (0, 1): a float means the decimal it prints as, and the result of arithmetic, such as
        1 − 0.9, the fraction without rounding. Text such as ``"1/10"``, a fraction and a decimal are exact.

    Returns
    -------
    int or None
        k in 1..n, or None if α < 1/(n + 1): the threshold is then +∞.

    Raises
    ------
    TypeError, ValueError
        If ``n`` is not an integer of at least 0, or ``alpha`` not a number in (0, 1).

    Notes
    -----
    Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World* (2005).

    Examples
    --------
    >>> quantile_rank(9, alpha=0.1)
    9
    >>> quantile_rank(9, alpha=0.7)
    3
    >>> quantile_rank(9, alpha=0.05) is None
    True
    """
    if isinstance(n, bool) or not isinstance(n, numbers.Integral):
        raise TypeError(f"n must be an integer, got {type(n).__name__}")
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")
    k = rank(int(n), miscoverage(alpha))
    return k if k <= n else None


def rank(n: int, alpha: Fraction) -> int:
    """Return ⌈(n + 1)(1 − α)⌉ for any rational α; above n the threshold is +∞, below 1 it is −∞."""
    return n + 1 - (n + 1) * alpha.numerator // alpha.denominator


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
        Whether to check scores. If None, only if the host can read them without a sync.

    Returns
    -------
    array, shape (...)
        Same library, dtype and device as ``scores``; shape (A, ...) for a sequence of levels.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind, library, shape or range.

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
    """Return the k-th smallest score (one-based) over the last axis."""
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
    """Sort scores (N,) within each of ``count`` groups, with one synchronisation; ``groups`` (N,) are in 0..count − 1.

    Returns the scores, group after group, and the count + 1 places where groups start or end.
    """
    xp = array_namespace(scores=scores, groups=groups)
    order = xp.argsort(scores, stable=False)
    order = xp.take(order, xp.argsort(xp.take(groups, order), stable=True))
    edges = xp.searchsorted(xp.take(groups, order), xp.arange(count + 1, device=device(scores)), side="left")
    return xp.take(scores, order), edges.tolist() if hasattr(edges, "tolist") else [int(edge) for edge in edges]


def grouped_quantiles(ordered: Array, parts: Sequence[tuple[int, int]], alpha: Fraction) -> Array:
    """Threshold of each part, from its start to its end, of sorted scores; +∞ for one with too few."""
    xp = array_namespace(scores=ordered)
    endless = ordered.shape[0]
    places = []
    for start, end in parts:
        k = rank(end - start, alpha)
        places.append(start + k - 1 if k <= end - start else endless)
    ordered = xp.concat([ordered, xp.full((1,), math.inf, dtype=ordered.dtype, device=device(ordered))])
    return xp.take(ordered, xp.asarray(places, dtype=xp.int64, device=device(ordered)))


def warn(sentence: str) -> None:
    """Issue a UserWarning for the innermost caller outside this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("conformal_core."):
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, UserWarning, stacklevel=level)
