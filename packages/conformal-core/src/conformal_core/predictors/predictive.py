"""Conformal predictive systems: a predictive distribution of the target around each prediction."""

from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, as_array, beside
from conformal_core._convert import as_floating
from conformal_core._settings import fresh
from conformal_core._state import State
from conformal_core.memory.base import Fixed, Memory
from conformal_core.predictors._base import Change, Predictor, as_row_scores, unchanged
from conformal_core.quantile import Alpha, miscoverage, rank, read_alpha, warn_too_few
from conformal_core.scores.regression import AbsoluteResidual, NormalizedResidual

Array = Any


class PredictiveSystem(Predictor):
    """Predictive distributions from signed residuals: a distribution function, quantiles and intervals at any level.

    Parameters
    ----------
    score
        :class:`AbsoluteResidual` for residuals y − ŷ, or :class:`NormalizedResidual` for (y − ŷ)/σ̂. Their signs are
        kept, whatever the ``side``.
    memory
        Past residuals, for example :class:`Window`; a copy of it holds those of the other sign. If None, a calibration
        set, :class:`Fixed`.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.

    Notes
    -----
    Guarantee: if calibration rows and the new one are exchangeable, its target is at most the upper quantile at q with
    probability at least q, and below the lower one with probability at most q; :meth:`cdf` of the target is uniform on
    [0, 1] with uniform draws ``u``. Vovk, Shen, Manokhin and Xie, *Nonparametric predictive distributions based on
    conformal prediction* (2019). As in crepes, both quantiles are residuals: ⌊q(N + 1)⌋-th and ⌈q(N + 1)⌉-th smallest.

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
        if not isinstance(score, (AbsoluteResidual, NormalizedResidual)):
            raise TypeError(f"score must be an AbsoluteResidual or NormalizedResidual, got {type(score).__name__}")
        if memory is not None and not isinstance(memory, Memory):
            raise TypeError(f"memory must have the methods of Memory, got {type(memory).__name__}")
        self.score = score
        self.memory: Any = Fixed() if memory is None else memory
        self._given_memory = memory
        self._mirror: Any = fresh("memory", self.memory)
        self._lower, self._upper = replace(score, side="lower"), replace(score, side="upper")
        self._warned = False

    def __len__(self) -> int:
        """Return the number of residuals."""
        return len(self.memory)

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
        return self.memory.p_values(self._lower(predictions, targets, check=check), u)

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
        before = self.memory.state_dict()
        self.memory.load_state_dict(state["memory"])
        try:
            self._mirror.load_state_dict(state["mirror"])
        except (TypeError, ValueError):
            self.memory.load_state_dict(before)
            raise
