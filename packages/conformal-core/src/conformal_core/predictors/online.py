"""Online conformal prediction: a score, a memory of past scores, and a level that sets the threshold."""

from functools import partial
from typing import Any

import numpy as np

from conformal_core._arrays import beside
from conformal_core._convert import as_floating
from conformal_core.level.quantile import Constant
from conformal_core.memory.base import finite_floats
from conformal_core.predictors._base import (
    Change,
    KnownClasses,
    OnlinePredictor,
    as_predictions,
    as_row_scores,
    at_each,
    check_calibration,
    check_classes,
    row_scores,
    sets_at_each,
    smoothed_sets,
    unchanged,
)
from conformal_core.predictors._issued import Ids, Row

Array = Any


class OnlineClassifier(KnownClasses, OnlinePredictor):
    """Prediction sets on a stream: predict, see the label, update.

    Parameters
    ----------
    score
        Nonconformity score, for example ``LAC()``.
    alpha, confidence
        Constant miscoverage in (0, 1), or 1 minus it; one or several, as for :class:`SplitClassifier`.
    memory
        Past scores: :class:`History` (the default), :class:`Window`, :class:`Exponential`, :class:`Reservoir`,
        :class:`Fixed`.
    level
        Rule that sets the threshold, in place of ``alpha``: :class:`ACI`, :class:`DtACI`, :class:`DecayingStep`,
        :class:`ConformalPID`, :class:`SAOCP`.
    max_pending
        Largest number of rows waiting for a label, at least 1, of about 500 bytes each (a few kB with :class:`SAOCP`).
        Beyond it the oldest are dropped.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind or range, or not exactly one of ``alpha``, ``confidence`` and ``level`` is
        given.

    Warns
    -----
    UserWarning
        Once each: if the memory has too few scores for α, more than ``max_pending`` rows or many equal rows wait, or
        updated rows are not among those waiting.

    Notes
    -----
    The guarantee is that of memory and level.

    Labels may arrive late, in another order, or never. The threshold of a set is kept until the label of its row
    arrives, and the level learns whether *that* set contained the label. A row is recognised by its ``ids``, if given
    to :meth:`predict` and :meth:`update`, or by its probabilities, the oldest of equal rows first: give ``ids`` if
    labels may be missing and rows recur. A row that was not predicted is compared with the threshold at its update.
    Updates synchronise with a device, as do predictions without ``ids`` unless the level is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import ACI, LAC, Window
    >>> predictor = OnlineClassifier(LAC(), memory=Window(1000), level=ACI(alpha=0.1, gamma=0.005))
    >>> probs = np.asarray([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]])
    >>> predictor.calibrate(np.tile(probs[0], (50, 1)), np.zeros(50, dtype=int))
    >>> predictor.predict(probs, ids=["monday", "tuesday"])
    array([[ True, False, False],
           [False, False, False]])
    >>> predictor.update(probs[1], 1, ids="tuesday")  # the label of the first row is late
    >>> float(predictor.level.current)
    0.0955
    >>> predictor.pending
    1
    """

    _kind = "OnlineClassifier"
    _asks = "sets"
    _axes = 1

    def calibrate(self, probs: Array, labels: Array | int, *, check: bool | None = None) -> None:
        """Start a stream from labelled rows: probs (N, K) with labels (N,), or one row.

        This replaces everything learned before: the memory contains the scores of these rows only, the level restarts
        (and learns the units of the score that it was not given), and waiting rows are dropped.
        """
        probs = as_floating("probs", probs)
        self._calibrate(as_row_scores("labels", self.score(probs, labels, check=check)), check)
        self._classes = check_classes(probs, None)

    def predict(
        self,
        probs: Array,
        *,
        ids: Ids | None = None,
        u: Array | float | np.random.Generator | None = None,
        nonempty: bool = False,
        check: bool | None = None,
    ) -> Array:
        """Prediction sets (..., K) of bool for one row or many, all with the current threshold.

        Parameters
        ----------
        probs : array, shape (..., K)
        ids
            An integer or string for each row, for :meth:`update`. A second prediction with the same id replaces the
            first. If None, rows are recognised by their probabilities.
        u
            With a constant level, draws in [0, 1] for each label, or a generator of them; see
            :meth:`SplitClassifier.predict`.
        nonempty
            Whether to add the best label to an empty set; the level learns from the set without it.
        check
            Whether to check values. If None, only if the host can read them without a sync.

        Raises
        ------
        TypeError, ValueError
            As the score, if ``ids`` have another kind or number, and if ``u`` is given with an adaptive level.
        """
        sets, issue = self._plan_predict(probs, ids=ids, u=u, nonempty=nonempty, check=check)
        issue()
        return sets

    def _plan_predict(
        self,
        probs: Array,
        *,
        ids: Ids | None = None,
        u: Array | float | np.random.Generator | None = None,
        nonempty: bool = False,
        check: bool | None = None,
    ) -> tuple[Array, Change]:
        probs = as_floating("probs", probs)
        check_classes(probs, self._classes)
        keys = self._keys(probs, ids)
        if u is not None:
            return self._smoothed(probs, u, nonempty, check), unchanged
        if self._constants:
            qhats = self._thresholds_of(probs)
            return sets_at_each(self.score, probs, qhats, nonempty=nonempty, check=check), unchanged
        qhat = self._threshold_of(probs)
        if not (keys and getattr(self.score, "randomized", False)):
            sets = self.score.sets(probs, float(qhat), nonempty=nonempty, check=check)
            return sets, partial(self._issued.put, keys, qhat) if keys else unchanged
        draws = self.score.draw(probs, None, check)
        sets = self.score.sets(probs, float(qhat), u=draws, nonempty=nonempty, check=check)
        return sets, partial(self._issued.put, keys, qhat, finite_floats(draws, check=False))

    def _smoothed(self, probs: Array, u: Any, nonempty: bool, check: bool | None) -> Array:
        if not isinstance(self.level, Constant):
            got = type(self.level).__name__
            raise TypeError(f"u must be left out unless the level is constant, got {got}, which learns from thresholds")
        scores, levels = self.score(probs, check=check), self._alpha or self.level.alpha
        return smoothed_sets(self.memory.p_values(scores, u=u), scores, levels, nonempty=nonempty)

    def update(self, probs: Array, labels: Array | int, *, ids: Ids | None = None, check: bool | None = None) -> None:
        """Learn from one row or many, in order.

        Parameters
        ----------
        probs : array, shape (N, K) or (K,)
            Rows as predicted, in any order.
        labels : array of int, shape (N,), or int
        ids
            The ids passed to :meth:`predict`. If None, rows are recognised by their probabilities.
        check
            Whether to check values. If None, only if the host can read them without a sync.

        Raises
        ------
        TypeError, ValueError
            As the score, and if an id is not that of a waiting row. Nothing is learned then.
        """
        self._plan_update(probs, labels, ids=ids, check=check)()

    def _plan_update(
        self, probs: Array, labels: Array | int, *, ids: Ids | None = None, check: bool | None = None
    ) -> Change:
        probs = as_floating("probs", probs)
        classes = check_classes(probs, self._classes)
        values = row_scores(self.score, "labels", probs, labels, check)
        keys = self._keys(probs, ids, known=True)

        def change() -> None:
            issued = self._issued.take_all(keys) if keys else []
            self._learn(self._redrawn(values, probs, labels, issued, check) if issued else values, probs, issued)
            self._classes = classes

        return change

    def _redrawn(
        self, values: list[float], probs: Array, labels: Array, issued: list[Row | None], check: bool | None
    ) -> list[float]:
        if not getattr(self.score, "randomized", False):
            return values
        draws = self.score.draw(probs, None, check)
        drawn = [new if row is None else row.draw for row, new in zip(issued, finite_floats(draws, False), strict=True)]
        u = beside(np.asarray(drawn).reshape(draws.shape), probs)
        return finite_floats(as_row_scores("labels", self.score(probs, labels, u=u, check=False)), check)

    def p_values(self, probs: Array, *, u: Array | float | None = None, check: bool | None = None) -> Array:
        """p-value of every label against the memory, (..., K)."""
        probs = as_floating("probs", probs)
        check_classes(probs, self._classes)
        return self.memory.p_values(self.score(probs, check=check), u=u)


class OnlineRegressor(OnlinePredictor):
    """Prediction intervals on a stream: predict, see the target, update.

    Parameters
    ----------
    score
        Regression score, for example ``AbsoluteResidual()``.
    alpha, confidence, memory, level, max_pending
        As for :class:`OnlineClassifier`, as are errors, warnings, the guarantee, and targets that arrive late.

    Notes
    -----
    A level learns whether the *score* exceeded the threshold; the ends of the interval are rounded, so a target within
    rounding of an end may count differently.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import AbsoluteResidual
    >>> predictor = OnlineRegressor(AbsoluteResidual(), alpha=0.5)
    >>> predictor.calibrate(np.asarray([3.0, 4.0, 5.0]), np.asarray([3.5, 4.25, 7.0]))
    >>> predictor.predict(np.asarray(3.0))
    array([2.5, 3.5])
    """

    _kind = "OnlineRegressor"
    _asks = "interval"

    def calibrate(self, predictions: Array, targets: Array, *, check: bool | None = None) -> None:
        """Start a stream from rows with one target each, as :meth:`OnlineClassifier.calibrate`."""
        predictions = as_floating("predictions", predictions)
        scores = as_row_scores("targets", self.score(predictions, targets, check=check))
        check_calibration(self.score, predictions, check=check)
        self._calibrate(scores, check)

    def predict(self, predictions: Array, *, ids: Ids | None = None, check: bool | None = None) -> Array:
        """Intervals (..., 2), or (A, ..., 2) for several alphas, for one row or many, all with the current threshold.

        ``ids`` as for :meth:`OnlineClassifier.predict`.
        """
        intervals, issue = self._plan_predict(predictions, ids=ids, check=check)
        issue()
        return intervals

    def _plan_predict(
        self, predictions: Array, *, ids: Ids | None = None, check: bool | None = None
    ) -> tuple[Array, Change]:
        predictions = as_predictions(predictions)
        keys = self._keys(predictions, ids)
        if self._constants:
            interval = partial(self.score.interval, predictions, check=check)
            return at_each(interval, self._thresholds_of(predictions)), unchanged
        qhat = self._threshold_of(predictions)
        intervals = self.score.interval(predictions, float(qhat), check=check)
        return intervals, partial(self._issued.put, keys, qhat) if keys else unchanged

    def update(self, predictions: Array, targets: Array, *, ids: Ids | None = None, check: bool | None = None) -> None:
        """Learn from one row or many, with one target each, as :meth:`OnlineClassifier.update`."""
        self._plan_update(predictions, targets, ids=ids, check=check)()

    def p_values(
        self, predictions: Array, targets: Array, *, u: Array | float | None = None, check: bool | None = None
    ) -> Array:
        """p-value of every target against the memory, (...)."""
        return self.memory.p_values(self.score(predictions, targets, check=check), u=u)

    def _plan_update(
        self, predictions: Array, targets: Array, *, ids: Ids | None = None, check: bool | None = None
    ) -> Change:
        predictions = as_predictions(predictions)
        values = row_scores(self.score, "targets", predictions, targets, check)
        keys = self._keys(predictions, ids, known=True)
        return lambda: self._learn(values, predictions, self._issued.take_all(keys) if keys else [])

    @property
    def _axes(self) -> int:
        return int(self.score.columns > 1)
