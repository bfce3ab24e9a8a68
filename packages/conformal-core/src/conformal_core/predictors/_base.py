"""Interface by which predictors are combined, checks of the rows that they receive, and results at several levels."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import array_namespace, as_array, to_host
from conformal_core._convert import as_floating, as_integers
from conformal_core._settings import Saved
from conformal_core._state import State, read_classes
from conformal_core.memory.base import finite_floats
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
