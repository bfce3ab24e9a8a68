"""Exact rank of the conformal order statistic: integers only, so no rounding."""

import math
import numbers
from decimal import Decimal
from fractions import Fraction


def as_fraction(alpha: float | Decimal | Fraction, name: str = "alpha") -> Fraction:
    """Return the decimal number that ``alpha`` is written as, exactly.

    The float 0.1 stands for one tenth, not for the binary number next to it.

    Raises
    ------
    TypeError
        If ``alpha`` is not a real number.
    ValueError
        If it is not finite.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, (numbers.Real, Decimal)):
        raise TypeError(f"{name} must be a real number, got {type(alpha).__name__}")
    if isinstance(alpha, numbers.Rational):
        return Fraction(alpha)
    if not math.isfinite(alpha):
        raise ValueError(f"{name} must be finite, got {alpha}")
    return Fraction(str(alpha))


def miscoverage(alpha: float | Decimal | Fraction, name: str = "alpha") -> Fraction:
    """Return ``alpha`` as an exact fraction and refuse it outside (0, 1)."""
    exact = as_fraction(alpha, name)
    if not 0 < exact.numerator < exact.denominator:  # torch 2.11 cannot trace how fractions compare
        raise ValueError(f"{name} must lie in (0, 1), got {alpha}")
    return exact


def quantile_rank(n: int, alpha: float | Decimal | Fraction) -> int | None:
    """Rank of the calibration score that bounds a prediction set.

    The rank is k = ⌈(n + 1)(1 − α)⌉, one-based, computed on the decimal α in rational arithmetic.

    Parameters
    ----------
    n
        Number of calibration scores, at least 0.
    alpha
        Miscoverage level in (0, 1): a float stands for the decimal it prints as.

    Returns
    -------
    int or None
        k in 1..n, or None when n is too small for this α, that is when α < 1/(n + 1): the threshold is then +∞.

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
    """Return ⌈(n + 1)(1 − α)⌉ for any rational α; above n it stands for a threshold of +∞, below 1 for −∞."""
    return n + 1 - (n + 1) * alpha.numerator // alpha.denominator
