"""Online conformal prediction: a score, a memory of past scores, and a level that says how strict to be now."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from conformal_core._checks import is_score
from conformal_core._state import State, check_state
from conformal_core.level.base import Level
from conformal_core.level.constant import Constant
from conformal_core.memory.base import Memory, finite_floats
from conformal_core.memory.history import History
from conformal_core.quantile import Alpha

Array = Any


class OnlinePredictor:
    """What online predictors share: a threshold that follows the scores.

    Attributes
    ----------
    memory
        Past scores.
    level
        How strict to be now.
    """

    _kind: str

    def __init__(self, score: Any, *, alpha: Alpha | None, memory: Memory | None, level: Level | None) -> None:
        is_score(score)
        if (alpha is None) == (level is None):
            both = "neither" if alpha is None else "both"
            raise TypeError(f"exactly one of alpha and level must be given, got {both}: a level holds its own alpha")
        for name, value, kind in (("memory", memory, Memory), ("level", level, Level)):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name} must have the methods of {kind.__name__}, got {type(value).__name__}")
        self.score = score
        self.memory: Memory = History() if memory is None else memory
        self.level: Level = Constant(alpha) if level is None and alpha is not None else level  # type: ignore[assignment]

    @property
    def qhat(self) -> float:
        """Threshold of the next prediction; +∞ while nothing is ruled out."""
        return self.level.threshold(self.memory)

    def _learn(self, scores: Array, qhat: float | Sequence[float] | None, check: bool | None) -> None:
        values = finite_floats(scores, check)
        if qhat is None:
            for score in values:
                self.level.update(score, self.level.threshold(self.memory), self.memory)
                self.memory.add(score)
            return
        given = np.asarray(qhat)
        if given.dtype.kind not in "fiu":
            raise TypeError(f"qhat must be a number, or a sequence of them, got {type(qhat).__name__}")
        if given.ndim and given.shape != (len(values),):
            got = given.shape[0] if given.ndim == 1 else f"shape {given.shape}"
            raise ValueError(f"qhat must hold one threshold, or one for each of {len(values)}, got {got}")
        if np.isnan(given).any():
            raise ValueError("qhat must not be NaN, got nan")
        thresholds = np.broadcast_to(given, (len(values),)).astype(np.float64).tolist()
        for score, threshold in zip(values, thresholds, strict=True):
            self.level.update(score, threshold, self.memory)
            self.memory.add(score)

    def state_dict(self) -> State:
        """Return memory and level as arrays and numbers; saved in mid-stream, it goes on bit for bit."""
        state = {"memory": self.memory.state_dict(), "level": self.level.state_dict()}
        return {"kind": self._kind, "version": 1, **state}

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state; ValueError says what does not fit, and then nothing has changed."""
        check_state(state, self._kind, {"memory", "level"})
        before = self.level.state_dict()
        self.level.load_state_dict(state["level"])
        try:
            self.memory.load_state_dict(state["memory"])
        except (TypeError, ValueError):
            self.level.load_state_dict(before)
            raise


class OnlineClassifier(OnlinePredictor):
    """Prediction sets on a stream: predict, see the label, update.

    Parameters
    ----------
    score
        Nonconformity score, for example ``LAC()``.
    alpha
        Miscoverage in (0, 1), the same for ever; leave it out where a level is given.
    memory
        Past scores: :class:`History` (the default), :class:`Window`, :class:`Exponential`, :class:`Reservoir`,
        :class:`Fixed`.
    level
        How strict to be now: :class:`ACI`, :class:`DtACI`, :class:`DecayingStep`, :class:`ConformalPID`,
        :class:`SAOCP`.

    Raises
    ------
    TypeError
        If both or neither of ``alpha`` and ``level`` are given, or an argument is of the wrong kind.
    ValueError
        If ``alpha`` lies outside (0, 1).

    Notes
    -----
    The guarantee is that of memory and level together, named in their documentation. Scores become numbers of the host,
    so each update of a device tensor waits for it once.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import ACI, LAC, Window
    >>> predictor = OnlineClassifier(LAC(), memory=Window(1000), level=ACI(alpha=0.1, gamma=0.005))
    >>> probs = np.asarray([0.7, 0.2, 0.1])
    >>> predictor.predict(probs)  # nothing seen yet: nothing ruled out
    array([ True,  True,  True])
    >>> for _ in range(50):
    ...     predictor.update(probs, 0)
    >>> predictor.predict(probs)
    array([ True, False, False])
    """

    _kind = "OnlineClassifier"

    def __init__(
        self, score: Any, *, alpha: Alpha | None = None, memory: Memory | None = None, level: Level | None = None
    ) -> None:
        super().__init__(score, alpha=alpha, memory=memory, level=level)

    def calibrate(self, probs: Array, labels: Array | int, *, check: bool | None = None) -> None:
        """Remember rows, (..., K) with labels (...), of before the stream: the level learns nothing from them."""
        self.memory.extend(self.score(probs, labels, check=check), check=check)

    def predict(self, probs: Array, *, nonempty: bool = False, check: bool | None = None) -> Array:
        """Prediction sets (..., K) of bool for one row or many, all with the threshold of now."""
        return self.score.sets(probs, self.qhat, nonempty=nonempty, check=check)

    def update(
        self,
        probs: Array,
        labels: Array | int,
        *,
        qhat: float | Sequence[float] | None = None,
        check: bool | None = None,
    ) -> None:
        """Learn from one row or many, one after another.

        Parameters
        ----------
        probs : array, shape (..., K)
        labels : array of int, shape (...), or int
        qhat
            The threshold(s) in force when the sets were predicted, for labels that come late: what a level learns is
            whether *that* set held the label. None: the threshold of now, and for many rows what it becomes.
        check
            Whether to check values. None: only where the host can read them at once.

        Raises
        ------
        TypeError, ValueError
            As the score, before anything is learned.
        """
        self._learn(self.score(probs, labels, check=check), qhat, check)

    def p_values(self, probs: Array, *, u: Array | float | None = None, check: bool | None = None) -> Array:
        """p-value of every label against the memory, (..., K)."""
        return self.memory.p_values(self.score(probs, check=check), u)


class OnlineRegressor(OnlinePredictor):
    """Prediction intervals on a stream: predict, see the target, update.

    Parameters
    ----------
    score
        Regression score, for example ``AbsoluteResidual()``.
    alpha, memory, level
        As for :class:`OnlineClassifier`; levels that move the threshold itself want their ``start`` and ``scale`` in
        the units of the target.

    Raises
    ------
    TypeError, ValueError
        As :class:`OnlineClassifier`.

    Notes
    -----
    The guarantee is that of memory and level together, named in their documentation.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import AbsoluteResidual
    >>> predictor = OnlineRegressor(AbsoluteResidual(), alpha=0.5)
    >>> predictor.predict(np.asarray(3.0))
    array([-inf,  inf])
    >>> predictor.update(np.asarray([3.0, 4.0, 5.0]), np.asarray([3.5, 4.25, 7.0]))
    >>> predictor.predict(np.asarray(3.0))
    array([2.5, 3.5])
    """

    _kind = "OnlineRegressor"

    def __init__(
        self, score: Any, *, alpha: Alpha | None = None, memory: Memory | None = None, level: Level | None = None
    ) -> None:
        super().__init__(score, alpha=alpha, memory=memory, level=level)

    def calibrate(self, predictions: Array, targets: Array, *, check: bool | None = None) -> None:
        """Remember rows of before the stream: the level learns nothing from them."""
        self.memory.extend(self.score(predictions, targets, check=check), check=check)

    def predict(self, predictions: Array, *, check: bool | None = None) -> Array:
        """Intervals (..., 2) for one row or many, all with the threshold of now."""
        return self.score.interval(predictions, self.qhat, check=check)

    def update(
        self,
        predictions: Array,
        targets: Array,
        *,
        qhat: float | Sequence[float] | None = None,
        check: bool | None = None,
    ) -> None:
        """Learn from one row or many, one after another; as :meth:`OnlineClassifier.update`."""
        self._learn(self.score(predictions, targets, check=check), qhat, check)
