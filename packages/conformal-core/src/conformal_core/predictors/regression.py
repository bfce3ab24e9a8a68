"""Regressors of signed residuals: intervals with two thresholds, and predictive distributions."""

from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, as_array, beside
from conformal_core._convert import as_floating
from conformal_core._settings import fresh
from conformal_core._state import State, load_together
from conformal_core.checks import check_type
from conformal_core.memory.base import Fixed, Memory
from conformal_core.predictors._base import Change, Predictor, as_row_scores, check_one_alpha, unchanged
from conformal_core.quantile import Alpha, miscoverage, rank, read_alpha, warn_too_few
from conformal_core.scores.regression import AbsoluteResidual, NormalizedResidual

Array = Any


class AsymmetricRegressor(Predictor):
    """Prediction intervals whose lower and upper ends are calibrated apart, for skewed errors.

    It joins two regressors of one side each, with a memory, threshold and level of their own.

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
    Guarantee: P(y < lower end) ≤ α of ``lower`` and P(y > upper end) ≤ α of ``upper``; their sum bounds the
    miscoverage. Romano, Patterson and Candès, *Conformalized quantile regression* (2019), theorem 2.

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
    lower: Any
    upper: Any

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
        load_together((self.lower, state["lower"]), (self.upper, state["upper"]))


def _both(first: Change, second: Change) -> None:
    first()
    second()


class PredictiveSystem(Predictor):
    """Predictive distributions from signed residuals: a distribution function, quantiles and intervals at any level.

    Parameters
    ----------
    score
        :class:`AbsoluteResidual` for residuals y − ŷ, or :class:`NormalizedResidual` for (y − ŷ)/σ̂.
    memory
        Past residuals, for example :class:`Window`; a copy holds those of the other sign. If None, :class:`Fixed`.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.

    Notes
    -----
    Guarantee: if calibration rows and the new one are exchangeable, its target is at most the upper quantile at q with
    probability at least q, and below the lower one with probability at most q; :meth:`cdf` of the target is uniform
    with uniform draws ``u``. Vovk, Shen, Manokhin and Xie, *Nonparametric predictive distributions based on conformal
    prediction* (2019). Both quantiles are residuals: the ⌊q(N + 1)⌋-th and the ⌈q(N + 1)⌉-th smallest.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import AbsoluteResidual
    >>> system = PredictiveSystem(AbsoluteResidual())
    >>> system.calibrate(np.zeros(19), np.arange(1.0, 20.0))
    >>> system.predict(np.asarray([100.0]), alpha=0.2)
    array([[102., 118.]])
    >>> system.cdf(np.asarray([100.0]), np.asarray([104.5]))
    array([0.25])
    >>> system.quantile(np.asarray([100.0]), 0.5)
    array([110.])
    """

    _kind, _saved = "PredictiveSystem", ("score",)

    def __init__(self, score: Any, *, memory: Memory | None = None) -> None:
        kinds = (AbsoluteResidual, NormalizedResidual)
        check_type("score", score, kinds, "be an AbsoluteResidual or NormalizedResidual")
        check_type("memory", memory, (Memory, type(None)), "have the methods of Memory")
        self.score = score
        self.memory: Any = Fixed() if memory is None else memory
        self._given_memory = memory
        self._mirror: Any = fresh("memory", self.memory)
        self._lower, self._upper = replace(score, side="lower"), replace(score, side="upper")
        self._warned = False

    def calibrate(self, predictions: Array, targets: Array, *, check: bool | None = None) -> None:
        """Replace the residuals by those of predictions (N,) or (N, 2) and targets (N,)."""
        learn = self._plan_update(predictions, targets, check=check)
        self.memory.reset()
        self._mirror.reset()
        self._warned = False
        learn()

    def update(self, predictions: Array, targets: Array, *, check: bool | None = None) -> None:
        """Add residuals; arguments as for :meth:`calibrate`."""
        self._plan_update(predictions, targets, check=check)()

    def cdf(
        self, predictions: Array, targets: Array, *, u: Array | float | None = None, check: bool | None = None
    ) -> Array:
        """Probability that the target is at most each value, (#{rᵢ < r} + u (#{rᵢ = r} + 1))/(N + 1), float64.

        Parameters
        ----------
        predictions : array, shape (...) or (..., 2)
        targets : array, broadcast with shape (...)
            Values with residuals r: shape (M,) for one prediction gives the curve.
        u : array or float in [0, 1], optional
            0 gives the lower bound, 1 (and None) the upper one; with uniform draws the value at the target is uniform.
        check
            Whether to check values. If None, only if the host can read them without a sync.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong kind, shape or range.
        """
        predictions = as_floating("predictions", predictions)
        xp, targets = array_namespace(predictions=predictions), as_array("targets", targets, predictions)
        axes = predictions.ndim - (self.score.columns > 1)
        rows, rest = tuple(predictions.shape[:axes]), tuple(predictions.shape[axes:])
        try:
            shape = np.broadcast_shapes(rows, tuple(targets.shape))
        except ValueError:
            got = tuple(targets.shape)
            raise ValueError(f"targets must broadcast with the shape {rows} of predictions, got {got}") from None
        if shape != rows:
            missing = (1,) * (len(shape) - len(rows))
            predictions = xp.broadcast_to(xp.reshape(predictions, (*missing, *predictions.shape)), (*shape, *rest))
        return self.memory.p_values(self._lower(predictions, targets, check=check), u=u)

    def quantile(self, predictions: Array, q: Alpha, *, lower: bool = False, check: bool | None = None) -> Array:
        """Return the quantiles (...) at a probability q in (0, 1), exact as ``alpha`` is.

        Where q falls between two residuals the upper one is taken, +∞ if N is too small, or with ``lower`` the lower
        one, or −∞.
        """
        level, predictions = miscoverage(q, "q"), as_floating("predictions", predictions)
        if lower:
            threshold = self._threshold(self.memory, level, predictions)
            return self._lower.interval(predictions, threshold, check=check)[..., 0]
        threshold = self._threshold(self._mirror, 1 - level, predictions)
        return self._upper.interval(predictions, threshold, check=check)[..., 1]

    def predict(
        self,
        predictions: Array,
        *,
        alpha: Alpha | None = None,
        confidence: Alpha | None = None,
        check: bool | None = None,
    ) -> Array:
        """Intervals (..., 2) from the lower quantile at α/2 to the upper quantile at 1 − α/2, both ends included.

        ``confidence`` is 1 − alpha, instead of ``alpha``.
        """
        half = read_alpha(alpha, confidence, miscoverage) / 2
        ends = [self.quantile(predictions, q, lower=q == half, check=check) for q in (half, 1 - half)]
        return array_namespace(ends=ends[0]).stack(ends, axis=-1)

    def _threshold(self, memory: Any, alpha: Fraction, predictions: Array) -> Array | float:
        n = len(memory)
        if rank(n, alpha) > n and not self._warned:
            self._warned = True
            warn_too_few(n, alpha, "the quantile is infinite")
        threshold = memory.quantile(alpha)
        return threshold if isinstance(threshold, float) else beside(threshold, predictions)

    def _plan_predict(self, predictions: Array, **options: Any) -> tuple[Array, Change]:
        return self.predict(predictions, **options), unchanged

    def _plan_update(self, predictions: Array, targets: Array, *, check: bool | None = None) -> Change:
        predictions = as_floating("predictions", predictions)
        scores = as_row_scores("targets", self._lower(predictions, targets, check=check))
        return partial(self._add, scores)

    def _add(self, scores: Array) -> None:
        self.memory.extend(scores, check=False)
        self._mirror.extend(-scores, check=False)

    def _learned(self) -> State:
        return {"memory": self.memory.state_dict(), "mirror": self._mirror.state_dict()}

    def _restore(self, state: State) -> None:
        load_together((self.memory, state["memory"]), (self._mirror, state["mirror"]))
