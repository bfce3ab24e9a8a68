"""Exact rank of the conformal order statistic, in integer arithmetic."""

import math
import numbers
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import numpy as np

Alpha = float | Decimal | Fraction | str
Alphas = Alpha | Sequence[Alpha] | np.ndarray[Any, Any]

_WRITTEN = re.compile(r"[0-9.]{1,40}(e-?[0-9]{1,3})?|[0-9]{1,40}/[0-9]{1,40}", re.IGNORECASE)

_WRITTEN_FLOAT = 17  # characters of a double with 15 digits; rounding shows from the 16th digit on


def as_fraction(alpha: Alpha, name: str = "alpha") -> Fraction:
    """Return the number that ``alpha`` is written as, exactly.

    The float 0.1 means one tenth, not the nearest binary number. A float that prints with more digits than its type
    resolves is the result of arithmetic, such as 1 − 0.9 or 1/3, and means the simple fraction within its rounding
    error, if there is one. TypeError for anything but a real number or text, ValueError for what is not finite.
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


def quantile_rank(n: int, alpha: Alpha) -> int | None:
    """Rank of the calibration score that bounds a prediction set.

    The rank is k = ⌈(n + 1)(1 − α)⌉, one-based, computed on the decimal α in rational arithmetic.

    Parameters
    ----------
    n
        Number of calibration scores, at least 0.
    alpha
        Miscoverage level in (0, 1): a float means the decimal it prints as, and the result of arithmetic, such as
        1 − 0.9, the fraction without rounding. Text such as ``"1/10"``, a fraction and a decimal are exact.

    Returns
    -------
    int or None
        k in 1..n, or None if n is too small for this α, that is if α < 1/(n + 1): the threshold is then +∞.

    Raises
    ------
    TypeError
        If ``n`` is not an integer or ``alpha`` not a real number.
    ValueError
        If ``n`` is negative or ``alpha`` outside (0, 1).

    Notes
    -----
    Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World* (2005); the finite-sample rank as in Lei et al.
    (2018).

    Examples
    --------
    >>> quantile_rank(9, 0.1)
    9
    >>> quantile_rank(9, 0.7)
    3
    >>> quantile_rank(9, 0.05) is None
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
