"""Growth exponents by least squares on logarithms, compared with those of the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Growth:
    """Measurements of a quantity that grows like a power of a size."""

    name: str
    """What was measured."""
    sizes: Sequence[float]
    """At least four sizes."""
    values: Sequence[float]
    """A positive value for each size."""
    exponent: float
    """Exponent of the arithmetic."""
    tolerance: float
    """Largest difference between the exponents that does not contradict the arithmetic."""

    def fitted(self) -> tuple[float, float]:
        """Return the exponent and its standard error.

        Examples
        --------
        >>> Growth("squares", (1, 2, 3, 4), (1, 4, 9, 16), 2, 0.1).fitted()[0].round(6)
        np.float64(2.0)
        """
        x, y = np.log(self.sizes), np.log(self.values)
        x, y = x - x.mean(), y - y.mean()
        slope = (x @ y) / (x @ x)
        residual = y - slope * x
        return slope, np.sqrt(residual @ residual / (len(x) - 2) / (x @ x))

    def holds(self) -> bool:
        """Return whether the fitted exponent is within the tolerance."""
        return abs(self.fitted()[0] - self.exponent) <= self.tolerance

    def row(self) -> str:
        """Return a row of a table."""
        slope, error = self.fitted()
        largest = f"{self.values[-1]:.3g} at {self.sizes[-1]:,.0f}"
        residual = f"{slope - self.exponent:+.3f}"
        verdict = "yes" if self.holds() else "NO"
        return (
            f"| {self.name} | {largest} | {self.exponent:g} | {slope:.3f} ± {error:.3f} | {residual} "
            f"| {self.tolerance:g} | {verdict} |"
        )


@dataclass(frozen=True)
class Compared:
    """A quantity by arithmetic and as counted in a real run."""

    name: str
    predicted: float
    counted: float
    tolerance: float
    """Largest relative difference that does not contradict the arithmetic."""

    def holds(self) -> bool:
        """Return whether the relative difference is within the tolerance."""
        return abs(self.counted / self.predicted - 1) <= self.tolerance

    def row(self) -> str:
        """Return a row of a table."""
        residual = f"{100 * (self.counted / self.predicted - 1):+.2f} %"
        verdict = "yes" if self.holds() else "NO"
        limit = f"{100 * self.tolerance:g} %"
        return f"| {self.name} | {self.predicted:,.0f} | {self.counted:,.0f} | {residual} | {limit} | {verdict} |"
