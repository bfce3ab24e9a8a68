"""Scores of regression, and the intervals they stand for."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace
from conformal_core._convert import as_floating, as_threshold
from conformal_core._settings import Settings
from conformal_core.checks import check_finite, is_checked

Array = Any

_FEW, _MOST = 20, 0.75  # rows from which swapped columns are told from bad luck, and the fraction that crosses then


class ResidualScore(Settings, ABC):
    """Base of the regression scores: a frozen callable on predictions and targets, and its inverse.

    A new score defines ``compute``, ``bounds`` and ``point``.

    Attributes
    ----------
    columns : int
        Numbers that a prediction consists of: 1 for shape (...), otherwise they are a last axis (..., columns).
    """

    columns: int = 1

    @abstractmethod
    def compute(self, predictions: Array, targets: Array) -> Array:
        """Score rows that were checked."""

    @abstractmethod
    def bounds(self, predictions: Array, qhat: Array) -> tuple[Array, Array]:
        """Return the smallest and the largest target whose score is at most ``qhat``."""

    @abstractmethod
    def point(self, predictions: Array) -> Array:
        """Return the target (...) with the smallest score, which is what a prediction says if it says one number."""

    def check_values(self, predictions: Array, xp: Any) -> None:  # most scores accept all
        """Refuse predictions that make no sense, beside those that are not finite."""

    def check_calibration(self, predictions: Array, *, check: bool | None) -> None:  # most accept all
        """Refuse a whole table of predictions that cannot be meant as it is; predictors ask before they calibrate."""

    def __call__(self, predictions: Array, targets: Array, /, *, check: bool | None = None) -> Array:
        """Score targets.

        Parameters
        ----------
        predictions : array, shape (...) or (..., columns)
        targets : array, broadcast to shape (...)
        check
            Whether to look for values that are not finite. None: only where the host can read them at once.

        Returns
        -------
        array, shape (...)

        Raises
        ------
        TypeError
            If an argument is not an array of real floating-point numbers, or the libraries differ.
        ValueError
            If shapes do not fit or a value is not finite.
        """
        predictions = self._checked(predictions, check)
        targets = as_floating("targets", targets, predictions)
        xp = array_namespace(predictions=predictions, targets=targets)
        if is_checked(targets, check):
            check_finite("targets", targets, xp)
        rows = self._rows(predictions)
        try:
            targets = xp.broadcast_to(targets, rows)
        except (ValueError, RuntimeError):
            same = math.prod(rows) == math.prod(targets.shape)
            cure = ": reshape(-1) drops an axis of length 1" if same else ""
            raise ValueError(f"targets must broadcast to shape {rows}, got {tuple(targets.shape)}{cure}") from None
        scores = self.compute(predictions, targets)
        return np.asarray(scores) if isinstance(scores, np.generic) else scores  # numpy makes scalars of 0-d arrays

    def interval(self, predictions: Array, qhat: Array | float, /, *, check: bool | None = None) -> Array:
        """Return the prediction intervals {y : s(x, y) ≤ q̂}.

        Parameters
        ----------
        predictions : array, shape (...) or (..., columns)
        qhat : array or float, broadcast against shape (...)
            Threshold; +∞ gives (−∞, ∞).
        check
            Whether to look for values that are not finite. None: only where the host can read them at once.

        Returns
        -------
        array, shape (..., 2)
            Lower and upper ends, both included, in the dtype of ``predictions``, to which a threshold of another one is
            rounded up; an interval is empty where the lower is the larger.

        Raises
        ------
        TypeError, ValueError
            As for a call, and if ``qhat`` is NaN or does not broadcast.
        """
        predictions = self._checked(predictions, check)
        xp = array_namespace(predictions=predictions)
        qhat = as_threshold(qhat, self._rows(predictions), predictions, check=check)
        return xp.stack(list(self.bounds(predictions, qhat)), axis=-1)

    def reliability(
        self, predictions: Array, targets: Array, qhat: Array | float, /, *, check: bool | None = None
    ) -> Array:
        """How deep a target lies in its prediction interval: 1 at the most plausible target, towards 0 at the ends.

        What :func:`conformal_core.rank_reliability` is for labels: one minus the share of the set that is more
        plausible than the target. Labels are counted and targets are measured, so that with C(t) = {y : s(x, y) ≤ t}
        it is ``1 − |C(s)| / |C(q̂)|`` where s ≤ q̂, and 0 outside. Of `AbsoluteResidual` and `NormalizedResidual` that is
        ``1 − s/q̂``, of `CQR` ``2 (q̂ − s)`` over the width of the interval.

        Parameters
        ----------
        predictions : array, shape (...) or (..., columns)
        targets : array, broadcast to shape (...)
        qhat : array or float, broadcast against shape (...)
            Threshold of the interval; with +∞ every target has the reliability 1.
        check
            Whether to look for values that are not finite. None: only where the host can read them at once.

        Returns
        -------
        array, shape (...)
            In [0, 1]; 0 at the ends of the interval and outside.

        Raises
        ------
        TypeError, ValueError
            As for a call, and if ``qhat`` is NaN or does not broadcast.

        Examples
        --------
        >>> import numpy as np
        >>> AbsoluteResidual().reliability(np.asarray([1.0, 1.0, 1.0]), np.asarray([1.0, 1.25, 2.0]), 0.5)
        array([1. , 0.5, 0. ])
        """
        predictions = as_floating("predictions", predictions)
        score = self(predictions, targets, check=check)
        xp = array_namespace(predictions=predictions)
        qhat = as_threshold(qhat, self._rows(predictions), predictions, check=check)
        narrow, wide = (high - low for low, high in (self.bounds(predictions, t) for t in (score, qhat)))
        zero = xp.zeros_like(score)
        # An interval that is one point holds that point alone; where it is empty the target lies outside.
        value = 1.0 - xp.where(narrow > 0, narrow, zero) / xp.where(wide > 0, wide, xp.ones_like(wide))
        return xp.where((score <= qhat) & (value > 0), value, zero)

    def _rows(self, predictions: Array) -> tuple[int, ...]:
        return tuple(predictions.shape if self.columns == 1 else predictions.shape[:-1])

    def _checked(self, predictions: Array, check: bool | None) -> Array:
        predictions = as_floating("predictions", predictions)
        xp = array_namespace(predictions=predictions)
        if self.columns > 1 and (predictions.ndim == 0 or predictions.shape[-1] != self.columns):
            raise ValueError(f"predictions must have shape (..., {self.columns}), got {tuple(predictions.shape)}")
        if is_checked(predictions, check):
            check_finite("predictions", predictions, xp)
            self.check_values(predictions, xp)
        return predictions


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

    def compute(self, predictions: Array, targets: Array) -> Array:
        """Distance of target and prediction."""
        return array_namespace(targets=targets).abs(targets - predictions)

    def bounds(self, predictions: Array, qhat: Array) -> tuple[Array, Array]:
        """Prediction ± q̂."""
        return predictions - qhat, predictions + qhat

    def point(self, predictions: Array) -> Array:
        """Return the prediction itself."""
        return predictions


@dataclass(frozen=True)
class NormalizedResidual(ResidualScore):
    """``|y − ŷ| / σ̂``: wide intervals where the model expects a large error.

    Predictions have shape (..., 2): ŷ, and a positive guess σ̂ of the size of its error.

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
