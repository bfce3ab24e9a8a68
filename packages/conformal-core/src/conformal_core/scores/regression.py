"""Regression scores: absolute residuals, normalized residuals, and conformalized quantile regression."""

import math
from dataclasses import dataclass
from typing import Any

from conformal_core._arrays import array_namespace
from conformal_core.checks import is_checked
from conformal_core.scores.residual import ResidualScore

Array = Any

_FEW, _MOST = 20, 0.75  # fewest rows, and fraction of crossed rows, that indicate swapped columns


@dataclass(frozen=True)
class AbsoluteResidual(ResidualScore):
    """``|y − ŷ|``: intervals of the same width everywhere.

    Predictions ŷ have shape (...).

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
        """Absolute difference of target and prediction."""
        return abs(targets - predictions)

    def bounds(self, predictions: Array, qhat: Array) -> tuple[Array, Array]:
        """Prediction ± q̂."""
        return predictions - qhat, predictions + qhat

    def point(self, predictions: Array) -> Array:
        """Return the prediction itself."""
        return predictions


@dataclass(frozen=True)
class NormalizedResidual(ResidualScore):
    """``|y − ŷ| / σ̂``: wider intervals for larger expected errors.

    Predictions have shape (..., 2): ŷ, and a positive estimate σ̂ of its error.

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
        return array_namespace(targets=targets).abs(targets - predictions[..., 0]) / predictions[..., 1]

    def bounds(self, predictions: Array, qhat: Array) -> tuple[Array, Array]:
        """Prediction ± q̂ σ̂."""
        return predictions[..., 0] - qhat * predictions[..., 1], predictions[..., 0] + qhat * predictions[..., 1]

    def point(self, predictions: Array) -> Array:
        """Return ŷ."""
        return predictions[..., 0]


@dataclass(frozen=True)
class CQR(ResidualScore):
    """max(lower − y, y − upper): conformalized quantile regression.

    Predictions have shape (..., 2): a lower and an upper conditional quantile, which may cross. A negative threshold
    makes intervals narrower than predicted, down to empty ones. Predictors refuse a calibration table if the
    lower exceeds the upper in more than three quarters of at least 20 rows, which means that the columns were swapped.

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
        """Refuse a table whose lower quantile lies above the upper one in most rows.

        Quantiles that were fitted apart cross here and there, which is valid; nearly everywhere they cross where the
        columns were swapped.
        """
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
        return xp.where(below > above, below, above)

    def bounds(self, predictions: Array, qhat: Array) -> tuple[Array, Array]:
        """Both ends moved outwards by q̂."""
        return predictions[..., 0] - qhat, predictions[..., 1] + qhat

    def point(self, predictions: Array) -> Array:
        """Middle of the predicted interval."""
        return (predictions[..., 0] + predictions[..., 1]) / 2
