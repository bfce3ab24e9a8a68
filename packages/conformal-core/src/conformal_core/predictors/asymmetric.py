"""Intervals whose two ends have thresholds of their own."""

from functools import partial
from typing import Any

from conformal_core._arrays import array_namespace, beside
from conformal_core._state import State
from conformal_core.predictors._base import Change, Predictor
from conformal_core.predictors._several import check_one_alpha

Array = Any


class AsymmetricRegressor(Predictor):
    """Prediction intervals whose lower and upper ends are calibrated apart, for skewed errors.

    It joins two regressors of one side each, with a memory, threshold and level of their own. The miscoverage is at
    most the sum of theirs.

    Parameters
    ----------
    lower
        :class:`SplitRegressor`, :class:`OnlineRegressor` or :class:`Streams` with a score of ``side="lower"``.
    upper
        The same with ``side="upper"``.

    Raises
    ------
    TypeError, ValueError
        If an argument is no such regressor, or the scores take predictions of different shapes.

    Notes
    -----
    Guarantee: P(y < lower end) ≤ α of ``lower`` and P(y > upper end) ≤ α of ``upper``, each with its exact rank.
    Romano, Patterson and Candès, *Conformalized quantile regression* (2019), theorem 2.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import AbsoluteResidual, SplitRegressor
    >>> lower = SplitRegressor(AbsoluteResidual(side="lower"), alpha=0.1)
    >>> upper = SplitRegressor(AbsoluteResidual(side="upper"), alpha=0.1)
    >>> predictor = AsymmetricRegressor(lower, upper)
    >>> predictor.calibrate(np.zeros(19), np.arange(19.0) ** 2)
    >>> predictor.predict(np.asarray([5.0]))
    array([[  6., 294.]])
    """

    _kind = "AsymmetricRegressor"

    def __init__(self, lower: Any, upper: Any) -> None:
        for side, predictor in (("lower", lower), ("upper", upper)):
            own = getattr(getattr(predictor, "score", None), "side", None)
            if not hasattr(predictor, "_plan_update") or own is None:
                got = type(predictor).__name__
                raise TypeError(f"{side} must be a SplitRegressor or OnlineRegressor, or Streams, got {got}")
            check_one_alpha(side, predictor)
            if own != side:
                raise ValueError(f"{side} must have a score of side {side!r}, got {own!r}")
        if lower.score.columns != upper.score.columns:
            got = f"{lower.score.columns} and {upper.score.columns}"
            raise ValueError(f"lower and upper must have scores of as many columns of predictions, got {got}")
        self.lower, self.upper = lower, upper

    @property
    def qhat(self) -> Array:
        """Thresholds of the lower and the upper end, (2,)."""
        low = self.lower.qhat
        return array_namespace(low=low).stack([low, beside(self.upper.qhat, low)])

    def calibrate(self, predictions: Array, targets: Array, **options: Any) -> None:
        """Replace the calibration rows of both ends; see :meth:`SplitRegressor.calibrate`."""
        before = self.lower.state_dict()
        self.lower.calibrate(predictions, targets, **options)
        try:
            self.upper.calibrate(predictions, targets, **options)
        except (TypeError, ValueError):
            self.lower.load_state_dict(before)
            raise

    def predict(self, predictions: Array, **options: Any) -> Array:
        """Intervals (..., 2), both ends included; options, such as ``ids``, as for the two regressors."""
        intervals, issue = self._plan_predict(predictions, **options)
        issue()
        return intervals

    def update(self, predictions: Array, targets: Array, **options: Any) -> None:
        """Learn from rows at both ends; options as for the two regressors."""
        self._plan_update(predictions, targets, **options)()

    def p_values(self, predictions: Array, targets: Array, **options: Any) -> Array:
        """p-values of every target for the lower and the upper end, (..., 2).

        A target is in the interval exactly when each exceeds the α of its end. Twice the smaller one is a p-value.
        """
        ends = [end.p_values(predictions, targets, **options) for end in (self.lower, self.upper)]
        return array_namespace(p=ends[0]).stack(ends, axis=-1)

    def _plan_predict(self, rows: Array, **options: Any) -> tuple[Array, Change]:
        (below, issue_lower), (above, issue_upper) = (
            end._plan_predict(rows, **options) for end in (self.lower, self.upper)
        )
        ends = [below[..., 0], above[..., 1]]
        return array_namespace(ends=below).stack(ends, axis=-1), partial(_both, issue_lower, issue_upper)

    def _plan_update(self, rows: Array, labels: Array, **options: Any) -> Change:
        return partial(_both, *(end._plan_update(rows, labels, **options) for end in (self.lower, self.upper)))

    def _learned(self) -> State:
        return {"lower": self.lower.state_dict(), "upper": self.upper.state_dict()}

    def _restore(self, state: State) -> None:
        before = self.lower.state_dict()
        self.lower.load_state_dict(state["lower"])
        try:
            self.upper.load_state_dict(state["upper"])
        except (TypeError, ValueError):
            self.lower.load_state_dict(before)
            raise


def _both(first: Change, second: Change) -> None:
    first()
    second()
