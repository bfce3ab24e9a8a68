"""Bases of the predictors, checks of the rows that they receive, and results at several levels."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence, Sized
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import array_namespace, as_array, narrow, to_host
from conformal_core._convert import as_floating, as_integers
from conformal_core._settings import Saved
from conformal_core._state import State, read_classes
from conformal_core.checks import check_count, check_score, check_type
from conformal_core.level.base import Level, QuantileLevel, Threshold
from conformal_core.level.quantile import Constant
from conformal_core.memory.base import Memory, finite_floats
from conformal_core.memory.ordered import History
from conformal_core.predictors._issued import Ids, Issued, Row, keys_of_ids, keys_of_rows
from conformal_core.quantile import Alphas, read_alpha, warn_too_few
from conformal_core.sets import with_top

Array = Any
Change = Callable[[], None]
Levels = Fraction | tuple[Fraction, ...]


def unchanged() -> None:
    """Change nothing."""


class Predictor(Saved):
    """Base of the predictors that can be combined.

    A step is checked before it changes anything, so that several predictors can take it together or not at all: the
    ``_plan`` methods take the arguments of ``predict`` and ``update``, check them, and return the change as a function
    that cannot fail.
    """

    calibrate: Callable[..., None]
    _plan_predict: Callable[..., tuple[Array, Change]]
    _plan_update: Callable[..., Change]


class KnownClasses:
    """Mix-in of classifiers: the number of classes of calibration is part of the state."""

    _classes: int | None = None

    def _learned(self) -> State:
        return {**super()._learned(), "classes": self._classes}  # type: ignore[misc]  # of the predictor

    def _restore(self, state: State) -> None:
        classes = read_classes(state)
        super()._restore(state)  # type: ignore[misc]
        self._classes = classes


def as_predictions(value: Any) -> Array:
    """Return floating-point predictions as an array, or one number as a scalar of numpy, which is faster."""
    if type(value) is np.float64 or (type(value) is np.ndarray and value.dtype.char == "d"):
        return value
    return np.float64(value) if type(value) is float else as_floating("predictions", value)


def check_classes(probs: Array, known: int | None) -> int | None:
    """Return the number of classes of rows (..., K), which must be the known one if there is one."""
    if probs.ndim and probs.shape[-1] == known:
        return known
    count = int(probs.shape[-1]) if probs.ndim else None  # a scalar is for the score to refuse
    if known is not None and count != known and count is not None:
        raise ValueError(f"probs must have the {known} classes of calibration, got {count}")
    return count


def check_calibration(score: Any, predictions: Array, *, check: bool | None) -> None:
    """Let a regression score refuse a table of predictions, if it has such a check."""
    if hasattr(score, "check_calibration"):
        score.check_calibration(predictions, check=check)


def row_scores(score: Any, name: str, rows: Array, own: Array, check: bool | None) -> list[float]:
    """Return the scores of rows with one label or target each as floats."""
    of_row = getattr(type(score), "of_row", None)  # not of the object: one that wraps a score may pass it on
    one = of_row and of_row(score, rows, own, check=check)
    if one is not None:
        return [one]
    return finite_floats(as_row_scores(name, score(rows, own, check=check)), check)


def as_row_scores(name: str, scores: Array) -> Array:
    """Return scores () or (N,), those of (N, 1) as (N,); ValueError for several scores a row."""
    if type(scores) is np.ndarray and scores.ndim <= 1 and scores.dtype.char in "fd":
        return scores
    scores = as_floating("scores", scores)
    if scores.ndim <= 1:
        return scores
    shape = tuple(scores.shape)
    if math.prod(shape[1:]) != 1:
        cure = "make one predictor for each column, or reshape rows that are exchangeable into one axis"
        raise ValueError(f"{name} must have shape (N,), one for each row, got {shape}: {cure}")
    return scores[(slice(None), *(0 for _ in shape[1:]))]


def as_host_rows(name: str, rows: Array) -> NDArray[np.float64]:
    rows = as_floating(name, rows)
    return np.asarray(to_host(rows.float() if str(rows.dtype) == "torch.bfloat16" else rows), dtype=np.float64)


def as_host_labels(name: str, labels: Array, classes: bool) -> NDArray[Any]:
    """Return labels of classes as a numpy array of int64, or targets as one of float64."""
    if not classes:
        return as_host_rows(name, labels)
    labels = as_array(name, labels)
    return np.asarray(to_host(as_integers(name, labels, labels)))


def is_labelled(labels: NDArray[Any], classes: bool, axes: int) -> NDArray[np.bool_]:
    """Whether each row, in ``axes`` axes, has its labels; −1 is a missing class, NaN a missing target."""
    present = labels != -1 if classes else ~np.isnan(labels)
    return np.asarray(present.all(axis=tuple(range(axes, labels.ndim))))


def at_each(result: Callable[[Any], Array], values: Sequence[Any]) -> Array:
    results = [result(value) for value in values]
    return array_namespace(results=results[0]).stack(results)


def sets_at_each(score: Any, probs: Array, qhats: Sequence[Any], *, nonempty: bool, check: bool | None) -> Array:
    """Return the sets (A, ..., K) of several thresholds; they are nested, because a randomized score draws once."""
    draw = {"u": score.draw(probs, None, check)} if getattr(score, "randomized", False) else {}
    return at_each(lambda qhat: score.sets(probs, qhat, nonempty=nonempty, check=check, **draw), qhats)


def smoothed_sets(p: Array, scores: Array, levels: Levels, *, nonempty: bool) -> Array:
    """Return the sets (..., K), or (A, ..., K), of the labels whose p-value exceeds each level."""
    if isinstance(levels, tuple):
        return at_each(lambda level: smoothed_sets(p, scores, level, nonempty=nonempty), levels)
    inside = p > float(levels)
    return with_top(inside, scores, array_namespace(scores=scores)) if nonempty else inside


def written(levels: Any) -> Any:
    """Return an array of levels as a list, which ``repr`` shows as source, and anything else itself."""
    return list(levels) if isinstance(levels, np.ndarray) and levels.ndim else levels


def check_one_alpha(name: str, predictor: Any) -> None:
    """Raise TypeError for a predictor of several miscoverages, whose results have an axis that others lack."""
    levels = getattr(predictor, "_alpha", None)
    if isinstance(levels, tuple):
        raise TypeError(f"{name} must have one alpha, got {len(levels)}: make one of each")


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
            self._constants = [Constant(alpha=one) for one in self._alpha] if several else []
            level = self._constants[0] if several else Constant(alpha=self._alpha)
        self.level: Level = level
        self.max_pending: int = check_count("max_pending", max_pending)
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
