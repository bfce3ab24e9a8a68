"""Split conformal prediction: one calibration set, and a guarantee on exchangeable data."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from conformal_core._arrays import beside
from conformal_core._convert import as_floating
from conformal_core._state import State
from conformal_core.checks import check_score
from conformal_core.memory.base import Fixed
from conformal_core.predictors._base import (
    Change,
    KnownClasses,
    Predictor,
    as_row_scores,
    at_each,
    check_calibration,
    check_classes,
    sets_at_each,
    smoothed_sets,
    unchanged,
    written,
)
from conformal_core.quantile import Alphas, rank, read_alpha, warn_too_few

Array = Any


class SplitPredictor(Predictor):
    """Base of the split predictors; calibration costs O(N log N), a prediction as much as its scores."""

    _saved = ("alpha", "score")
    _asks: str  # method that the score must have

    def __init__(self, score: Any, *, alpha: Alphas | None = None, confidence: Alphas | None = None) -> None:
        check_score(score, self._asks)
        self._alpha = read_alpha(alpha, confidence)
        self.score = score
        self.alpha: Any = self._alpha if alpha is None else alpha
        self._given_alpha, self._given_confidence = written(alpha), written(confidence)
        self._memory = Fixed()
        self._qhat: Array | None = None

    @property
    def qhat(self) -> Array:
        """Threshold, a 0-d array of the library and device of the calibration scores; +∞ if they are too few.

        One for each alpha, (A,), if there are several.
        """
        if self._qhat is None:
            n, several = len(self._memory), isinstance(self._alpha, tuple)
            levels = self._alpha if isinstance(self._alpha, tuple) else (self._alpha,)
            if rank(n, smallest := min(levels)) > n:
                warn_too_few(n, smallest)
            self._qhat = at_each(self._memory.quantile, levels) if several else self._memory.quantile(levels[0])
        return self._qhat

    def _qhat_for(self, rows: Array) -> Array | float:
        """Return the threshold in the library and on the device of rows; a float for numpy arrays of one dtype."""
        qhat = self.qhat
        if type(qhat) is np.ndarray and type(rows) is np.ndarray and qhat.dtype == rows.dtype and not qhat.ndim:
            return float(qhat)
        return beside(qhat, rows)

    def _qhats_for(self, rows: Array) -> list[Array]:
        qhats: Array = self._qhat_for(rows)
        return [qhats[i, ...] for i in range(qhats.shape[0])]

    def _calibrate(self, scores: Array) -> None:
        self._memory, self._qhat = Fixed(), None
        self._memory.extend(scores, check=False)

    def _update(self, scores: Array) -> None:
        self._memory.extend(scores, check=False)
        self._qhat = None

    predict: Callable[..., Array]

    def _plan_predict(self, rows: Array, **options: Any) -> tuple[Array, Change]:
        return self.predict(rows, **options), unchanged

    def _learned(self) -> State:
        return {"memory": self._memory.state_dict()}

    def _restore(self, state: State) -> None:
        self._memory.load_state_dict(state["memory"])
        self._qhat = None


class SplitClassifier(KnownClasses, SplitPredictor):
    """Prediction sets from a calibration set.

    Parameters
    ----------
    score
        Nonconformity score, for example ``LAC()``.
    alpha
        Miscoverage in (0, 1), or a sequence of A of them: results then have a first axis of length A, and the sets of a
        larger alpha are contained in those of a smaller one.
    confidence
        1 − alpha, exactly, instead of ``alpha``.

    Raises
    ------
    TypeError, ValueError
        If ``score`` cannot be called, ``alpha`` or ``confidence`` is not a number in (0, 1), or both are given.

    Notes
    -----
    Guarantee: if calibration rows and the new one are exchangeable, 1 − α ≤ P(y ∈ C) and, without ties, P(y ∈ C) ≤ 1 −
    α + 1/(N + 1).

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import LAC
    >>> probs = np.asarray([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.4, 0.5, 0.1]])
    >>> predictor = SplitClassifier(LAC(), alpha=0.2)
    >>> predictor.calibrate(probs, np.asarray([0, 1, 2, 0]))
    >>> predictor.predict(np.asarray([0.55, 0.43, 0.02]))
    array([ True,  True, False])
    >>> nested = SplitClassifier(LAC(), confidence=["0.6", "0.8"])
    >>> nested.calibrate(probs, np.asarray([0, 1, 2, 0]))
    >>> nested.predict(np.asarray([0.55, 0.43, 0.02]))
    array([[ True, False, False],
           [ True,  True, False]])
    """

    _kind = "SplitClassifier"
    _asks = "sets"

    def calibrate(self, probs: Array, labels: Array, *, check: bool | None = None) -> None:
        """Replace the calibration rows by these: probs (N, K), labels (N,), or one row."""
        probs = as_floating("probs", probs)
        self._calibrate(as_row_scores("labels", self.score(probs, labels, check=check)))
        self._classes = check_classes(probs, None)

    def update(self, probs: Array, labels: Array, *, check: bool | None = None) -> None:
        """Add calibration rows: probs (N, K), labels (N,), or one row."""
        self._plan_update(probs, labels, check=check)()

    def _plan_update(self, probs: Array, labels: Array, *, check: bool | None = None) -> Change:
        probs = as_floating("probs", probs)
        classes = check_classes(probs, self._classes)
        scores = as_row_scores("labels", self.score(probs, labels, check=check))

        def change() -> None:
            self._update(scores)
            self._classes = classes

        return change

    def predict(
        self,
        probs: Array,
        *,
        u: Array | float | np.random.Generator | None = None,
        nonempty: bool = False,
        check: bool | None = None,
    ) -> Array:
        """Prediction sets (..., K) of bool for probs (..., K), or (A, ..., K) for several alphas.

        With ``u``, draws in [0, 1] for each label or a generator of them, sets are smoothed: a label is in the set
        exactly when its smoothed p-value exceeds alpha, which has probability 1 − alpha also with ties or few rows.
        """
        probs = as_floating("probs", probs)
        check_classes(probs, self._classes)
        if u is not None:
            scores = self.score(probs, check=check)
            return smoothed_sets(self._memory.p_values(scores, u=u), scores, self._alpha, nonempty=nonempty)
        if isinstance(self._alpha, tuple):
            return sets_at_each(self.score, probs, self._qhats_for(probs), nonempty=nonempty, check=check)
        return self.score.sets(probs, self._qhat_for(probs), nonempty=nonempty, check=check)

    def p_values(self, probs: Array, *, u: Array | float | None = None, check: bool | None = None) -> Array:
        """p-value of every label, (..., K): a label is in the set exactly when p > alpha."""
        probs = as_floating("probs", probs)
        check_classes(probs, self._classes)
        return self._memory.p_values(self.score(probs, check=check), u=u)


class SplitRegressor(SplitPredictor):
    """Prediction intervals from a calibration set.

    Parameters
    ----------
    score
        Regression score, for example ``AbsoluteResidual()``.
    alpha, confidence
        As for :class:`SplitClassifier`.

    Raises
    ------
    TypeError, ValueError
        As :class:`SplitClassifier`, which has the same guarantee.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import AbsoluteResidual
    >>> predictor = SplitRegressor(AbsoluteResidual(), alpha=0.2)
    >>> predictor.calibrate(np.zeros(40), np.arange(1.0, 41.0))
    >>> predictor.predict(np.asarray([100.0]))
    array([[ 67., 133.]])
    """

    _kind = "SplitRegressor"
    _asks = "interval"

    def calibrate(self, predictions: Array, targets: Array, *, check: bool | None = None) -> None:
        """Replace the calibration rows by these: predictions (N,) or (N, columns), targets (N,), or one row.

        Rows with several targets raise ValueError: one shared threshold would not give each target its coverage.
        """
        self._calibrate(self._scores(predictions, targets, check))

    def update(self, predictions: Array, targets: Array, *, check: bool | None = None) -> None:
        """Add calibration rows; arguments as for :meth:`calibrate`."""
        self._plan_update(predictions, targets, check=check)()

    def _plan_update(self, predictions: Array, targets: Array, *, check: bool | None = None) -> Change:
        return partial(self._update, self._scores(predictions, targets, check))

    def predict(self, predictions: Array, *, check: bool | None = None) -> Array:
        """Intervals (..., 2), or (A, ..., 2) for several alphas, both ends included; (−∞, ∞) if rows are too few."""
        predictions = as_floating("predictions", predictions)
        if isinstance(self._alpha, tuple):
            interval = partial(self.score.interval, predictions, check=check)
            return at_each(interval, self._qhats_for(predictions))
        return self.score.interval(predictions, self._qhat_for(predictions), check=check)

    def p_values(
        self, predictions: Array, targets: Array, *, u: Array | float | None = None, check: bool | None = None
    ) -> Array:
        """p-value of every target, (...): one is in the interval exactly when p > alpha.

        Up to rounding: residuals and ends are rounded separately, so a target within a few units in the last place of
        an end may be inside with p ≤ alpha, or outside with p > alpha.
        """
        return self._memory.p_values(self.score(predictions, targets, check=check), u=u)

    def _scores(self, predictions: Array, targets: Array, check: bool | None) -> Array:
        predictions = as_floating("predictions", predictions)
        scores = as_row_scores("targets", self.score(predictions, targets, check=check))
        check_calibration(self.score, predictions, check=check)
        return scores
