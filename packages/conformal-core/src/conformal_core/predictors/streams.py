"""Many streams at once, each with its own window of scores and its own level."""

import math
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._rank import rank
from conformal_core._state import State, read_classes, read_floats, read_thresholds
from conformal_core.checks import check_count, check_finite
from conformal_core.level.aci import ACI, Constant
from conformal_core.memory._windows import Windows
from conformal_core.memory.ordered import Window
from conformal_core.predictors._base import Change, Predictor
from conformal_core.predictors._rows import as_host_labels, as_host_rows, check_calibration, check_classes, is_labelled
from conformal_core.predictors.online import OnlineClassifier, OnlineRegressor
from conformal_core.quantile import warn_too_few

Array = Any
Id = int | str | None

_EXACT = 1 << 53  # integers below it are exact in float64, in which states hold them


class Streams(Predictor):
    """S online predictors in one object, computed on arrays: the same thresholds as a loop over them.

    Parameters
    ----------
    predictor
        Settings of each stream: an :class:`OnlineClassifier` or :class:`OnlineRegressor` with memory :class:`Window`,
        level :class:`Constant` or :class:`ACI`, and a score that is not randomized. It is not changed.
    streams
        Number of streams S, at least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or ``alpha`` and ``gamma`` have too many digits for integers of 53 bits.

    Notes
    -----
    Guarantee: that of memory and level, for each stream. Arguments are converted to float64 numpy arrays. A step costs
    .1 to .3 µs a stream; a window is sorted again only when its rank has moved far.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import ACI, AbsoluteResidual, OnlineRegressor, Window
    >>> one = OnlineRegressor(AbsoluteResidual(), memory=Window(100), level=ACI(alpha=0.5, gamma=0.005))
    >>> shops = Streams(one, 3)
    >>> shops.calibrate(np.zeros((3, 3)), np.asarray([[1.0, 10.0, 5.0], [2.0, 20.0, np.nan], [3.0, 30.0, 7.0]]))
    >>> shops.predict([0.0, 0.0, 50.0])
    array([[ -2.,   2.],
           [-20.,  20.],
           [ 43.,  57.]])
    >>> shops.update([0.0, 0.0, 50.0], [1.0, np.nan, 60.0])  # the second shop was closed
    """

    _kind, _saved = "Streams", ("predictor", "streams")

    def __init__(self, predictor: OnlineClassifier | OnlineRegressor, streams: int) -> None:
        self.streams = check_count("streams", streams)
        self._size, self._alpha, gamma = _settings(predictor)
        self.predictor, self.score, self.max_pending = predictor, predictor.score, predictor.max_pending
        self._classifies = isinstance(predictor, OnlineClassifier)
        # Integers as in `ACI`: α_t = now / whole.
        self._whole = self._alpha.denominator * gamma.denominator
        self._up, self._down = gamma.numerator * self._alpha.numerator, gamma.numerator * self._alpha.denominator
        if self._whole * (self._size + 2) * (2 + gamma * (self.max_pending + 1)) >= _EXACT:
            raise ValueError(f"alpha and gamma must have fewer digits for Streams, got {self._alpha} and {gamma}")
        # A miss moves the rank by about γ(size + 1): bands that hold several such steps are rarely renewed.
        self._width = min(32 + math.ceil(10 * gamma * (self._size + 1)), 2 * self._size)
        self._classes: int | None = None
        self._warned = False
        self._clear()

    @property
    def qhat(self) -> NDArray[np.float64]:
        """Threshold of the next prediction of each stream, (S,); +∞ while its scores are too few."""
        return self._windows.quantile(self._now, self._whole)

    @property
    def pending(self) -> int:
        """Number of predicted steps still waiting for labels; 0 if the level is constant."""
        return len(self._issued)

    def calibrate(self, rows: Array, labels: Array) -> None:
        """Start all streams from N steps, rows (N, S, …) and labels (N, S), and forget everything learned before."""
        rows = self._rows(rows, 1)
        scores, present = self._scores(rows, labels)
        check_calibration(self.score, rows[present], check=True)
        self._clear()
        self._warned = False
        for own, here in zip(scores, present, strict=True):
            self._windows.add(own[here], np.flatnonzero(here))
        self._classes = check_classes(rows, None) if self._classifies else None

    def predict(self, rows: Array, *, ids: Id = None) -> NDArray[Any]:
        """Prediction sets (S, K) of bool, or intervals (S, 2), of one step.

        Parameters
        ----------
        rows : array, shape (S, K), (S,) or (S, columns)
            Probabilities, or predictions, as the score takes them.
        ids
            Integer or string that identifies the step, if labels may arrive after the next prediction. A second
            prediction with the same one, or with None, replaces the first.

        Raises
        ------
        TypeError, ValueError
            As the score, and if there are not S rows.
        """
        sets, issue = self._plan_predict(rows, ids=ids)
        issue()
        return sets

    def _plan_predict(self, rows: Array, *, ids: Id = None) -> tuple[NDArray[Any], Change]:
        rows, qhat = self._rows(rows), self.qhat
        sets: NDArray[Any] = (self.score.sets if self._classifies else self.score.interval)(rows, qhat)
        if rank(fewest := int(self._windows.counts.min()), self._alpha) > fewest and not self._warned:
            self._warned = True
            warn_too_few(fewest, self._alpha, "sets of such a stream are full")
        return sets, partial(self._issue, ids, qhat)

    def update(self, rows: Array, labels: Array, *, ids: Id = None) -> None:
        """Learn from the labels of one step; those that are missing are not waited for.

        Parameters
        ----------
        rows : array
            Rows as predicted. Those without a label are not read.
        labels : array, shape (S,)
            Integers, −1 for none; or targets, NaN for none.
        ids
            As passed to :meth:`predict`. A step that was not predicted is compared with the current thresholds.

        Raises
        ------
        TypeError, ValueError
            As the score, if shapes do not fit, and if ``ids`` is not that of a waiting step. Nothing is learned then.
        """
        self._plan_update(rows, labels, ids=ids)()

    def _plan_update(self, rows: Array, labels: Array, *, ids: Id = None) -> Change:
        rows = self._rows(rows)
        scores, present = self._scores(rows, labels)
        if ids is not None:
            self._check_waiting(ids)
        classes = check_classes(rows, None) if self._classifies else None

        def change() -> None:
            self._learn(scores[present], np.flatnonzero(present), ids)
            self._classes = classes

        return change

    def forget(self, ids: Id = None) -> None:
        """Drop a step whose labels will never arrive; ValueError if it is not waiting."""
        self._check_waiting(ids)
        self._issued.pop(ids, None)

    def _check_waiting(self, ids: Id) -> None:
        if self._down and ids not in self._issued:
            raise ValueError(f"ids must be that of a predicted step that still waits for labels, got {ids!r}")

    def _issue(self, ids: Id, qhat: NDArray[np.float64]) -> None:
        if self._down:
            self._issued.pop(ids, None)
            self._issued[ids] = qhat
        if len(self._issued) > self.max_pending:
            del self._issued[next(iter(self._issued))]

    def _learn(self, scores: NDArray[np.float64], streams: NDArray[np.int64], ids: Id) -> None:
        if self._down:
            issued = self._issued.pop(ids) if ids in self._issued else self.qhat
            self._now[streams] += self._up - self._down * (scores > issued[streams])
        self._windows.add(scores, streams)

    def _clear(self) -> None:
        self._windows = Windows(self.streams, self._size, self._width)
        self._now = np.full(self.streams, self._alpha.numerator * (self._whole // self._alpha.denominator))
        self._issued: dict[Id, NDArray[np.float64]] = {}

    def _rows(self, rows: Array, leading: int = 0) -> NDArray[np.float64]:
        name = "probs" if self._classifies else "predictions"
        host = as_host_rows(name, rows)
        if host.ndim <= leading or host.shape[leading] != self.streams:
            axes = ("N, " * leading) + f"{self.streams}, ..."
            raise ValueError(f"{name} must have shape ({axes}), one row for each stream, got {host.shape}")
        if self._classifies:
            check_classes(host, self._classes if not leading else None)
        return host

    def _scores(self, rows: NDArray[np.float64], labels: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the score of each label, NaN without one, and whether there is one."""
        name, inner = ("labels", 1) if self._classifies else ("targets", int(self.score.columns > 1))
        labels = as_host_labels(name, labels, self._classifies)
        if labels.shape != (shape := rows.shape[: rows.ndim - inner]):
            raise ValueError(f"{name} must have shape {shape}, one for each row, got {labels.shape}")
        present = is_labelled(labels, self._classifies)
        scores = np.full(shape, np.nan)
        if present.any():
            scores[present] = self.score(rows[present], labels[present])
            check_finite("scores", scores[present], np)
        return scores, present

    def _learned(self) -> State:
        ring, places = self._windows.state()
        return {
            "scores": ring.ravel(),
            "places": places,
            "levels": self._now.copy(),
            "ids": list(self._issued),
            "thresholds": np.asarray(list(self._issued.values()), dtype=np.float64).ravel(),
            "classes": self._classes,
        }

    def _restore(self, state: State) -> None:
        shape = (self._size, self.streams)
        places, levels = (read_floats(state, key, length=self.streams) for key in ("places", "levels"))
        scores = read_thresholds(state, "scores", length=math.prod(shape))
        ids, classes = state["ids"], read_classes(state)
        known = (
            [one for one in ids if isinstance(one, (int, str, np.integer, type(None)))]
            if isinstance(ids, list)
            else None
        )
        if known is None or not len(ids) == len(set(known)) <= self.max_pending:
            raise ValueError(f"state of Streams must hold at most {self.max_pending} different ids, got others")
        issued = read_thresholds(state, "thresholds", length=len(ids) * self.streams)
        if scores is None or issued is None or (np.abs(levels) >= _EXACT).any() or (levels % 1 + places % 1).any():
            raise ValueError("state of Streams must hold scores, thresholds and whole numbers, got others")
        windows = Windows(*shape[::-1], self._width)
        windows.restore(as_host_rows("state", scores).reshape(shape), places.astype(np.int64))
        table = as_host_rows("state", issued).reshape(len(ids), self.streams)
        self._clear()
        self._windows, self._now, self._classes = windows, levels.astype(np.int64), classes
        self._issued = dict(zip(ids, table, strict=True))


def _settings(predictor: OnlineClassifier | OnlineRegressor) -> tuple[int, Fraction, Fraction]:
    """Return the size of the window, α, and γ (0 for a constant level), or raise TypeError."""
    if not isinstance(predictor, (OnlineClassifier, OnlineRegressor)):
        got = type(predictor).__name__
        raise TypeError(f"predictor must be an OnlineClassifier or OnlineRegressor, got {got}")
    memory, level = predictor.memory, predictor.level
    if type(memory) is not Window:
        raise TypeError(f"memory of the predictor must be a Window, such as Window(500), got {type(memory).__name__}")
    if type(level) is not Constant and type(level) is not ACI:
        raise TypeError(f"level of the predictor must be Constant or ACI, got {type(level).__name__}")
    if getattr(predictor.score, "randomized", False):
        raise TypeError(f"score of the predictor must not be randomized, got {predictor.score!r}")
    return memory.state_dict()["size"], level.alpha, level.gamma if isinstance(level, ACI) else Fraction(0)
