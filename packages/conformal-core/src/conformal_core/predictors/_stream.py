"""Base of the online predictors."""

import math
from abc import abstractmethod
from collections.abc import Sized
from functools import partial
from typing import Any

import numpy as np

from conformal_core._arrays import narrow
from conformal_core._state import State
from conformal_core.checks import check_count, check_score, check_type
from conformal_core.level.base import Level, QuantileLevel, Threshold
from conformal_core.level.quantile import Constant
from conformal_core.memory.base import Memory, finite_floats
from conformal_core.memory.ordered import History
from conformal_core.predictors._base import Predictor, written
from conformal_core.predictors._issued import Ids, Issued, Row, keys_of_ids, keys_of_rows
from conformal_core.quantile import Alphas, read_alpha, warn_too_few

Array = Any


class OnlinePredictor(Predictor):
    """Base of the online predictors: a threshold that follows the scores of a stream."""

    _saved = ("score",)
    _asks: str  # method that the score must have

    @property
    @abstractmethod
    def _axes(self) -> int:
        """Number of axes of one row."""

    def __init__(
        self,
        score: Any,
        *,
        alpha: Alphas | None = None,
        confidence: Alphas | None = None,
        memory: Memory | None = None,
        level: Level | None = None,
        max_pending: int = 100_000,
    ) -> None:
        check_score(score, self._asks)
        given = {"alpha": alpha, "confidence": confidence, "level": level}
        if len(names := [name for name, value in given.items() if value is not None]) != 1:
            got = " and ".join(names) or "none"
            raise TypeError(
                f"exactly one of alpha, confidence and level must be given, got {got}: a level holds its own alpha"
            )
        check_type("memory", memory, (Memory, type(None)), "have the methods of Memory")
        check_type("level", level, (Level, type(None)), "be a Level, such as ACI(alpha=0.1)")
        self.score = score
        self.memory: Memory = History() if memory is None else memory
        self._given_alpha, self._given_confidence, self._given_level = written(alpha), written(confidence), level
        self._alpha: Any = None
        self._constants: list[Constant] = []  # of several miscoverages
        if level is None:
            self._alpha = read_alpha(alpha, confidence)
            several = isinstance(self._alpha, tuple)
            self._constants = [Constant(one) for one in self._alpha] if several else []
            level = self._constants[0] if several else Constant(self._alpha)
        self.level: Level = level
        self.max_pending = check_count("max_pending", max_pending)
        self._issued = Issued(self.max_pending)
        self._warned = False

    @property
    def qhat(self) -> Array:
        """Threshold of the next prediction, a 0-d numpy array of float64; +∞ while scores are too few.

        One for each alpha, (A,), if there are several.
        """
        if self._constants:
            return np.asarray([constant.threshold(self.memory) for constant in self._constants])
        return np.asarray(float(self.level.threshold(self.memory)))

    @property
    def pending(self) -> int:
        """Number of predicted rows still waiting for a label; 0 if the level is constant."""
        return len(self._issued)

    def forget(self, ids: Ids) -> None:
        """Drop waiting rows whose labels will never arrive; ValueError if an id is not that of a waiting row."""
        rows = len(ids) if isinstance(ids, Sized) and not isinstance(ids, str) else 1
        self._issued.take_all(self._named(ids, rows, known=True))

    def _calibrate(self, scores: Array, check: bool | None) -> None:
        values = finite_floats(scores, check)
        self.memory.reset()
        self.memory.extend(scores, check=False)
        self.level.calibrate(values)
        self._issued, self._warned = Issued(self.max_pending), False

    def _thresholds_of(self, rows: Array) -> list[float]:
        return [self._threshold_of(rows, constant) for constant in self._constants]

    def _threshold_of(self, rows: Array, level: Level | None = None) -> float:
        level = self.level if level is None else level
        qhat = _in_precision_of(rows, level.threshold(self.memory))
        if qhat == math.inf and not self._warned and isinstance(level, QuantileLevel):
            alpha = level.alpha  # the target: α_t may have left (0, 1)
            if float(self.memory.quantile(alpha)) == math.inf:
                self._warned = True
                warn_too_few(len(self.memory), alpha)
        return qhat

    def _keys(self, rows: Array, ids: Ids | None, *, known: bool = False) -> list[bytes]:
        """Return a key for each row, none for a constant level; ``known`` rows must be waiting."""
        if ids is None and isinstance(self.level, Constant):
            return []
        axes = self._axes
        if ids is None:
            return keys_of_rows(rows, axes)
        return self._named(ids, math.prod(rows.shape[: rows.ndim - axes]), known=known)

    def _named(self, ids: Ids, rows: int, *, known: bool) -> list[bytes]:
        named = keys_of_ids(ids, rows)
        if isinstance(self.level, Constant):
            return []
        seen: set[bytes] = set()
        for place, key in enumerate(named if known else ()):
            if key in seen or key not in self._issued:
                one = np.asarray(ids).ravel()[place]
                got = f"{one} twice" if key in seen else f"{one}: for a row that was not predicted, omit ids"
                raise ValueError(f"ids must name predicted rows that still wait for a label, got {got}")
            seen.add(key)
        return named

    def _learn(self, scores: list[float], rows: Array, issued: list[Row | None]) -> None:
        if isinstance(self.level, Constant):
            for score in scores:
                self.memory.add(score)
            return
        for score, row in zip(scores, issued, strict=True):
            qhat = _in_precision_of(rows, self.level.threshold(self.memory)) if row is None else row.threshold
            self.level.update(score, qhat, self.memory)
            self.memory.add(score)

    def _saved_settings(self) -> State:
        several = {"alpha": ", ".join(map(str, self._alpha))} if isinstance(self._alpha, tuple) else {}
        return {**super()._saved_settings(), **several}

    def _learned(self) -> State:
        memory, level = self.memory.state_dict(), self.level.state_dict()
        return {"memory": memory, "level": level, "issued": self._issued.state_dict()}

    def _restore(self, state: State) -> None:
        level, issued = self.level.state_dict(), self._issued.state_dict()
        try:
            self._issued.load_state_dict(state["issued"])
            self.level.load_state_dict(state["level"])
            if self.pending:
                self._issued.check_kind(self.level.threshold(self.memory))
            self.memory.load_state_dict(state["memory"])
        except (TypeError, ValueError):
            self._issued.load_state_dict(issued)
            self.level.load_state_dict(level)
            raise


def _in_precision_of(rows: Array, qhat: float) -> float:
    if type(rows) is np.float64 or (isinstance(rows, np.ndarray) and rows.dtype.char == "d"):
        return qhat
    return qhat.mapped(partial(narrow, like=rows)) if isinstance(qhat, Threshold) else narrow(qhat, rows)
