"""Online conformal prediction: a score, a memory of past scores, and a level that sets the threshold."""

import math
import warnings
from functools import partial
from typing import Any

import numpy as np

from conformal_core._checks import floating, is_count, is_score
from conformal_core._precision import narrow
from conformal_core._settings import Settings
from conformal_core._state import State, check_state, read_classes
from conformal_core.level.aci import ACI
from conformal_core.level.base import Level, Threshold
from conformal_core.level.constant import Constant
from conformal_core.level.dtaci import DtACI
from conformal_core.memory.base import Memory, finite_floats
from conformal_core.memory.history import History
from conformal_core.predictors._issued import Ids, Issued, keys_of_ids, keys_of_rows
from conformal_core.predictors._rows import check_calibration, classes_of, one_a_row
from conformal_core.quantile import Alpha

Array = Any


class OnlinePredictor(Settings):
    """What online predictors share: a threshold that follows the scores.

    Attributes
    ----------
    memory
        Past scores.
    level
        Rule that sets the threshold.
    """

    _kind: str
    _asks: str  # method of the score

    def __init__(
        self, score: Any, *, alpha: Alpha | None, memory: Memory | None, level: Level | None, max_pending: int
    ) -> None:
        is_score(score, self._asks)
        if (alpha is None) == (level is None):
            both = "neither" if alpha is None else "both"
            raise TypeError(f"exactly one of alpha and level must be given, got {both}: a level holds its own alpha")
        if memory is not None and not isinstance(memory, Memory):
            raise TypeError(f"memory must have the methods of Memory, got {type(memory).__name__}")
        if level is not None and not isinstance(level, Level):
            raise TypeError(f"level must be a Level, such as ACI(alpha=0.1), got {type(level).__name__}")
        self.score = score
        self.memory: Memory = History() if memory is None else memory
        self.level: Level = Constant(alpha) if level is None and alpha is not None else level  # type: ignore[assignment]
        self._given_alpha, self._given_level = alpha, level
        self._given_max_pending = is_count("max_pending", max_pending)
        self._issued = Issued(self._given_max_pending)
        self._warned = False

    @property
    def qhat(self) -> float:
        """Threshold of the next prediction; +∞ while nothing is ruled out."""
        return float(self.level.threshold(self.memory))

    @property
    def pending(self) -> int:
        """Number of predicted rows whose labels have not come; 0 where the level is constant and learns nothing."""
        return len(self._issued)

    def _calibrate(self, scores: Array, check: bool | None) -> None:
        self.memory.extend(scores, check=check)
        self.level.calibrate(finite_floats(scores, check=False))

    def _threshold_of(self, rows: Array) -> float:
        """Return the threshold of rows, in their precision."""
        qhat = _in_precision_of(rows, self.level.threshold(self.memory))
        if qhat == math.inf and not self._warned and _is_too_short(self.memory, self.level):
            self._warned = True
            warnings.warn(
                f"the memory ({len(self.memory)} scores) is too short for alpha = {float(self.level.alpha):.6g}: "  # type: ignore[attr-defined]
                f"the threshold is +inf and every set is full until it holds more",
                UserWarning,
                stacklevel=3,
            )
        return qhat

    def _remember(self, rows: Array, axes: int, ids: Ids | None, qhat: float) -> None:
        """Keep the threshold with which rows, of ``axes`` axes each, were predicted."""
        if isinstance(self.level, Constant):
            return
        shape = rows.shape[: rows.ndim - axes]
        self._issued.put(keys_of_rows(rows, axes) if ids is None else keys_of_ids(ids, math.prod(shape)), qhat)

    def _learn(self, scores: Array, rows: Array, axes: int, ids: Ids | None, check: bool | None) -> None:
        values = finite_floats(scores, check)
        if isinstance(self.level, Constant):
            for score in values:
                self.memory.add(score)
            return
        keys = keys_of_rows(rows, axes) if ids is None else self._keys_that_wait(ids, len(values))
        for key, score in zip(keys, values, strict=True):
            qhat = self._issued.take(key)
            if qhat is None:
                qhat = _in_precision_of(rows, self.level.threshold(self.memory))
            self.level.update(score, qhat, self.memory)
            self.memory.add(score)

    def _keys_that_wait(self, ids: Ids, rows: int) -> list[bytes]:
        keys = keys_of_ids(ids, rows)
        unknown = [place for place, key in enumerate(keys) if key not in self._issued or key in keys[:place]]
        if unknown:
            one = np.asarray(ids).ravel()[unknown[0]]
            raise ValueError(f"ids must be of predicted rows without a label, got {one}: leave it out for a new row")
        return keys

    def state_dict(self) -> State:
        """Return memory and level as arrays and numbers; saved in mid-stream, it goes on bit for bit."""
        state = {"memory": self.memory.state_dict(), "level": self.level.state_dict()}
        return {"kind": self._kind, "version": 1, **state, "issued": self._issued.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state; ValueError says what does not fit, and then nothing has changed."""
        check_state(state, self._kind, {"memory", "level", "issued"})
        level, issued = self.level.state_dict(), self._issued.state_dict()
        try:
            self._issued.load_state_dict(state["issued"])
            self.level.load_state_dict(state["level"])
            self._issued.check_kind(type(self.level.threshold(self.memory)) if self.pending else float)
            self.memory.load_state_dict(state["memory"])
        except (TypeError, ValueError):
            self._issued.load_state_dict(issued)
            self.level.load_state_dict(level)
            raise


class OnlineClassifier(OnlinePredictor):
    """Prediction sets on a stream: predict, see the label, update.

    Parameters
    ----------
    score
        Nonconformity score, for example ``LAC()``.
    alpha
        Miscoverage in (0, 1), constant; leave it out where a level is given.
    memory
        Past scores: :class:`History` (the default), :class:`Window`, :class:`Exponential`, :class:`Reservoir`,
        :class:`Fixed`.
    level
        Rule that sets the threshold: :class:`ACI`, :class:`DtACI`, :class:`DecayingStep`, :class:`ConformalPID`,
        :class:`SAOCP`.
    max_pending
        Rows that may wait for their labels, at least 1. Beyond it the oldest are forgotten, with one warning.

    Raises
    ------
    TypeError
        If both or neither of ``alpha`` and ``level`` are given, or an argument is of the wrong kind.
    ValueError
        If ``alpha`` lies outside (0, 1).

    Warns
    -----
    UserWarning
        Once, if a set is predicted from too few scores for α: it is full.

    Notes
    -----
    The guarantee is that of memory and level together, named in their documentation.

    Labels may come late, in another order, or never. The threshold with which a set was issued is kept until the label
    of its row comes, and a level that adapts learns whether *that* set held the label. A row is recognized by its
    ``ids`` if they are given to both :meth:`predict` and :meth:`update`, and else by its probabilities, the oldest of
    equal rows first. A row that was not predicted is learned against the threshold at the time of its update. The
    comparison is the one that made the set, in the precision of the row.

    Scores become numbers of the host, so each update of a device tensor waits for it once, and so does each prediction
    unless ``ids`` are given or the level is constant.

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
    >>> predictor.update(probs[1], 1, ids="tuesday")  # the label of the first row is late: this one missed
    >>> float(predictor.level.current)
    0.0955
    >>> predictor.pending
    1
    """

    _kind = "OnlineClassifier"
    _asks = "sets"

    def __init__(
        self,
        score: Any,
        *,
        alpha: Alpha | None = None,
        memory: Memory | None = None,
        level: Level | None = None,
        max_pending: int = 100_000,
    ) -> None:
        super().__init__(score, alpha=alpha, memory=memory, level=level, max_pending=max_pending)
        self._classes: int | None = None

    def calibrate(self, probs: Array, labels: Array | int, *, check: bool | None = None) -> None:
        """Add labelled rows, (N, K) with labels (N,), or one row, to the memory before the stream starts.

        The level is not updated; it takes from them the units of the score, if it needs any that it was not given.
        """
        probs = floating("probs", probs)
        classes = classes_of(probs, self._classes)
        self._calibrate(one_a_row("labels", self.score(probs, labels, check=check)), check)
        self._classes = classes

    def predict(
        self, probs: Array, *, ids: Ids | None = None, nonempty: bool = False, check: bool | None = None
    ) -> Array:
        """Prediction sets (..., K) of bool for one row or many, all with the present threshold.

        Parameters
        ----------
        probs : array, shape (..., K)
        ids
            An integer or string for each row, by which :meth:`update` finds it again. A second prediction with the
            same id replaces the first. None: rows are recognized by their probabilities.
        nonempty
            Whether to add the best label to an empty set; a level still learns from the set without it.
        check
            Whether to check values. None: only where the host can read them at once.

        Raises
        ------
        TypeError, ValueError
            As the score, and if ``ids`` are of another kind or number.
        """
        probs = floating("probs", probs)
        classes_of(probs, self._classes)
        qhat = self._threshold_of(probs)
        sets = self.score.sets(probs, float(qhat), nonempty=nonempty, check=check)
        self._remember(probs, 1, ids, qhat)
        return sets

    def update(self, probs: Array, labels: Array | int, *, ids: Ids | None = None, check: bool | None = None) -> None:
        """Learn from one row or many, one after another.

        Parameters
        ----------
        probs : array, shape (N, K) or (K,)
            Rows as they were predicted, in any order.
        labels : array of int, shape (N,), or int
        ids
            Those given to :meth:`predict`. None: rows are recognized by their probabilities.
        check
            Whether to check values. None: only where the host can read them at once.

        Raises
        ------
        TypeError, ValueError
            As the score, and if an id names no predicted row that waits for its label; before anything is learned.
        """
        probs = floating("probs", probs)
        classes = classes_of(probs, self._classes)
        self._learn(one_a_row("labels", self.score(probs, labels, check=check)), probs, 1, ids, check)
        self._classes = classes

    def p_values(self, probs: Array, *, u: Array | float | None = None, check: bool | None = None) -> Array:
        """p-value of every label against the memory, (..., K)."""
        probs = floating("probs", probs)
        classes_of(probs, self._classes)
        return self.memory.p_values(self.score(probs, check=check), u)

    def state_dict(self) -> State:
        """Return memory, level, rows that wait for their labels, and the number of classes."""
        return {**super().state_dict(), "classes": self._classes}

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state; ValueError says what does not fit, and then nothing has changed."""
        classes = read_classes(state)
        super().load_state_dict(state)
        self._classes = classes


class OnlineRegressor(OnlinePredictor):
    """Prediction intervals on a stream: predict, see the target, update.

    Parameters
    ----------
    score
        Regression score, for example ``AbsoluteResidual()``.
    alpha, memory, level, max_pending
        As for :class:`OnlineClassifier`.

    Raises
    ------
    TypeError, ValueError
        As :class:`OnlineClassifier`.

    Warns
    -----
    UserWarning
        As :class:`OnlineClassifier`.

    Notes
    -----
    The guarantee is that of memory and level together, named in their documentation. Targets may come late, in another
    order, or never: see :class:`OnlineClassifier`.

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

    def __init__(
        self,
        score: Any,
        *,
        alpha: Alpha | None = None,
        memory: Memory | None = None,
        level: Level | None = None,
        max_pending: int = 100_000,
    ) -> None:
        super().__init__(score, alpha=alpha, memory=memory, level=level, max_pending=max_pending)

    def calibrate(self, predictions: Array, targets: Array, *, check: bool | None = None) -> None:
        """Add rows with one target each to the memory before the stream starts; see :class:`OnlineClassifier`."""
        predictions = floating("predictions", predictions)
        scores = one_a_row("targets", self.score(predictions, targets, check=check))
        check_calibration(self.score, predictions, check=check)
        self._calibrate(scores, check)

    def predict(self, predictions: Array, *, ids: Ids | None = None, check: bool | None = None) -> Array:
        """Intervals (..., 2) for one row or many, all with the present threshold.

        ``ids`` as for :meth:`OnlineClassifier.predict`.
        """
        predictions = floating("predictions", predictions)
        qhat = self._threshold_of(predictions)
        intervals = self.score.interval(predictions, float(qhat), check=check)
        self._remember(predictions, self._axes, ids, qhat)
        return intervals

    def update(self, predictions: Array, targets: Array, *, ids: Ids | None = None, check: bool | None = None) -> None:
        """Learn from one row or many, one target each, one after another; as :meth:`OnlineClassifier.update`."""
        predictions = floating("predictions", predictions)
        scores = one_a_row("targets", self.score(predictions, targets, check=check))
        self._learn(scores, predictions, self._axes, ids, check)

    @property
    def _axes(self) -> int:
        return int(self.score.columns > 1)


def _in_precision_of(rows: Array, qhat: float) -> float:
    """Return a threshold as it is compared with the scores of rows: rounded to their precision."""
    if isinstance(rows, np.ndarray) and rows.dtype.char == "d":
        return qhat
    rounded = partial(narrow, like=rows)
    return qhat.mapped(rounded) if isinstance(qhat, Threshold) else rounded(qhat)


def _is_too_short(memory: Memory, level: Level) -> bool:
    """Whether a level that takes a quantile of the memory would find too few scores there for its target α."""
    return isinstance(level, (Constant, ACI, DtACI)) and memory.quantile(level.alpha) == math.inf
