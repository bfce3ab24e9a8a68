"""Regression scores: absolute residuals, normalized residuals, and conformalized quantile regression."""

import math
from dataclasses import dataclass
from typing import Any

from conformal_core._arrays import array_namespace
from conformal_core.checks import check_choice, is_checked
from conformal_core.scores.residual import RegressionScore, Side

Array = Any

_FEW, _MOST = 20, 0.75  # fewest rows, and fraction of crossed rows, that indicate swapped columns


@dataclass(frozen=True, kw_only=True, repr=False)  # that of `Settings` leaves out defaults
class SidedScore(RegressionScore):
    """Base of the scores whose residual can be taken without its sign, or with the sign of one side."""

    side: Side = "both"

    def __post_init__(self) -> None:
        check_choice("side", self.side, Side)

    def sided(self, residuals: Array) -> Array:
        """Return residuals y − ŷ of either sign as scores."""
        if self.side == "both":
            return abs(residuals)
        return residuals if self.side == "upper" else -residuals


@dataclass(frozen=True, kw_only=True, repr=False)
class AbsoluteResidual(SidedScore):
    """``|y − ŷ|``: intervals of the same width everywhere.

    Predictions ŷ have shape (...).

    Parameters
    ----------
    side
        ``"upper"`` is the signed residual y − ŷ, with intervals (−∞, ŷ + q̂]; ``"lower"`` is ŷ − y, with intervals
        [ŷ − q̂, ∞). The threshold of one side may be negative.

    Notes
    -----
    Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, *Distribution-free predictive inference for regression* (2018).

    Examples
    --------
    >>> import numpy as np
    >>> AbsoluteResidual().interval(np.asarray([1.0, 5.0]), 0.5)
    array([[0.5, 1.5],
           [4.5, 5.5]])
    """

    takes_floats = True

    def compute(self, predictions: Array, targets: Array) -> Array:
        """Difference of target and prediction."""
        return self.sided(targets - predictions)

    def bounds(self, predictions: Array, qhat: Array) -> tuple[Array, Array]:
        """Prediction ± q̂."""
        return predictions - qhat, predictions + qhat

    def point(self, predictions: Array) -> Array:
        """Return the prediction itself."""
        return predictions


@dataclass(frozen=True, kw_only=True, repr=False)
class NormalizedResidual(SidedScore):
    """``|y − ŷ| / σ̂``: wider intervals for larger expected errors.

    Predictions have shape (..., 2): ŷ, and a positive estimate σ̂ of its error.

    Parameters
    ----------
    side
        As for :class:`AbsoluteResidual`: ``"upper"`` is (y − ŷ)/σ̂, ``"lower"`` is (ŷ − y)/σ̂.

    Notes
    -----
    Papadopoulos, Gammerman and Vovk, *Normalized nonconformity measures for regression conformal prediction* (2008).

    Examples
    --------
    >>> import numpy as np
    >>> NormalizedResidual().interval(np.asarray([[1.0, 0.5], [5.0, 2.0]]), 2.0)
    array([[0., 2.],
           [1., 9.]])
    """

    columns = 2

    def check_values(self, predictions: Array, xp: Any) -> None:
        """Refuse a spread that is not positive."""
        smallest = xp.min(predictions[..., 1]) if math.prod(predictions.shape) else xp.ones(())
        if not bool(smallest > 0):
            raise ValueError(f"predictions[..., 1], the size of the error, must be positive, got {float(smallest)}")

    def compute(self, predictions: Array, targets: Array) -> Array:
        """Distance of target and prediction, in units of the expected one."""
        return self.sided(targets - predictions[..., 0]) / predictions[..., 1]

    def bounds(self, predictions: Array, qhat: Array) -> tuple[Array, Array]:
        """Prediction ± q̂ σ̂."""
        return predictions[..., 0] - qhat * predictions[..., 1], predictions[..., 0] + qhat * predictions[..., 1]

    def point(self, predictions: Array) -> Array:
        """Return ŷ."""
        return predictions[..., 0]


@dataclass(frozen=True, kw_only=True, repr=False)
class CQR(SidedScore):
    """max(lower − y, y − upper): conformalized quantile regression.

    Predictions have shape (..., 2): a lower and an upper conditional quantile, which may cross. A negative threshold
    makes intervals narrower than predicted. Predictors refuse a calibration table of at least 20 rows in which more
    than three quarters cross: the columns were swapped.

    Parameters
    ----------
    side
        ``"upper"`` is y − upper, with intervals (−∞, upper + q̂]; ``"lower"`` is lower − y.

    Notes
    -----
    Romano, Patterson and Candès, *Conformalized quantile regression* (2019).

    Examples
    --------
    >>> import numpy as np
    >>> CQR()(np.asarray([[1.0, 2.0], [1.0, 2.0]]), np.asarray([1.25, 2.5]))
    array([-0.25,  0.5 ])
    >>> CQR().interval(np.asarray([[1.0, 2.0]]), 0.5)
    array([[0.5, 2.5]])
    """

    columns = 2

    def check_calibration(self, predictions: Array, *, check: bool | None) -> None:
        """Refuse a table whose lower quantile lies above the upper one in most rows."""
        if not is_checked(predictions, check) or predictions.ndim < 2:
            return
        xp = array_namespace(predictions=predictions)
        rows = math.prod(predictions.shape[:-1])
        crossed = int(xp.sum(xp.astype(predictions[..., 0] > predictions[..., 1], xp.int64)))
        if rows >= _FEW and crossed > _MOST * rows:
            raise ValueError(
                f"predictions must be (lower, upper), got {crossed} of {rows} rows with lower > upper: swap the columns"
            )

    def compute(self, predictions: Array, targets: Array) -> Array:
        """Signed distance from the predicted interval, negative inside."""
        xp = array_namespace(targets=targets)
        below, above = predictions[..., 0] - targets, targets - predictions[..., 1]
        if self.side == "both":
            return xp.where(below > above, below, above)
        return below if self.side == "lower" else above

    def bounds(self, predictions: Array, qhat: Array) -> tuple[Array, Array]:
        """Both ends moved outwards by q̂."""
        return predictions[..., 0] - qhat, predictions[..., 1] + qhat

    def point(self, predictions: Array) -> Array:
        """Middle of the predicted interval."""
        return (predictions[..., 0] + predictions[..., 1]) / 2
