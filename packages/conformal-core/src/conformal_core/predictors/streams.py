"""Many streams at once, each with its own window of scores and its own level."""

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._settings import Saved
from conformal_core._state import State, read_classes, read_floats, read_thresholds, refuse_if
from conformal_core.checks import check_count, check_finite, check_type
from conformal_core.level.quantile import ACI, Constant
from conformal_core.memory._windows import Windows
from conformal_core.memory.ordered import Window
from conformal_core.predictors._base import (
    Change,
    as_host_labels,
    as_host_rows,
    check_calibration,
    check_classes,
    check_one_alpha,
    is_labelled,
)
from conformal_core.predictors.online import OnlineClassifier, OnlineRegressor
from conformal_core.quantile import rank, warn_too_few

Array = Any
Floats = NDArray[np.float64]
Id = int | str | None

_EXACT = 1 << 53  # integers below it are exact in float64, in which states hold them


class Streams(Saved):
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
    some 100 µs, and .1 to .4 µs a stream.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import ACI, AbsoluteResidual, OnlineRegressor, Window
    >>> one = OnlineRegressor(AbsoluteResidual(), memory=Window(100), level=ACI(alpha=0.5, gamma=0.005))
    >>> shops = Streams(one, 3)
    >>> shops.calibrate(np.zeros((3, 3)), [[1.0, 10.0, 5.0], [2.0, 20.0, np.nan], [3.0, 30.0, 7.0]])
    >>> shops.predict([0.0, 0.0, 50.0])
    array([[ -2.,   2.],
           [-20.,  20.],
           [ 43.,  57.]])
    >>> shops.update([0.0, 0.0, 50.0], [1.0, np.nan, 60.0])  # the second shop was closed
    """

    _kind, _saved = "Streams", ("predictor", "streams")
    predictor: OnlineClassifier | OnlineRegressor
    streams: int
    score: Any
    _classes: int | None
    _warned: bool

    def __init__(self, predictor: OnlineClassifier | OnlineRegressor, streams: int) -> None:
        self.predictor, self.streams = predictor, check_count("streams", streams)
        self._size, self._alpha, gamma = _settings(predictor)
        self.score, self._classifies = predictor.score, isinstance(predictor, OnlineClassifier)
        # Integers as in `ACI`: α_t = now / whole.
        self._whole = self._alpha.denominator * gamma.denominator
        self._up, self._down = gamma.numerator * self._alpha.numerator, gamma.numerator * self._alpha.denominator
        if self._whole * (self._size + 2) * (2 + gamma * (predictor.max_pending + 1)) >= _EXACT:
            raise ValueError(f"alpha and gamma must have fewer digits for Streams, got {self._alpha} and {gamma}")
        self._restart()

    @property
    def qhat(self) -> Floats:
        """Threshold of the next prediction of each stream, (S,); +∞ while its scores are too few."""
        return self._windows.quantile(self._now, self._whole)

    def calibrate(self, rows: Array, labels: Array) -> None:
        """Start all streams from N steps, rows (N, S, …) and labels (N, S), and forget everything learned before."""
        host = as_host_rows("rows", rows)
        if host.ndim < 2 or host.shape[1] != self.streams:
            raise ValueError(f"rows must have shape (N, {self.streams}, ...), got {host.shape}")
        scores, present = self._scores(host, labels)
        check_calibration(self.score, host[present], check=True)
        self._restart()
        for own, here in zip(scores, present, strict=True):
            self._windows.add(own[here], np.flatnonzero(here))
        self._classes = check_classes(host, None) if self._classifies else None

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

    def update(self, rows: Array, labels: Array, *, ids: Id = None) -> None:
        """Learn from the labels of one step; those that are missing are not waited for.

        Parameters
        ----------
        rows, ids
            As for :meth:`predict`. A step that was not predicted is compared with the current thresholds.
        labels : array, shape (S,)
            Integers, −1 for none; or targets, NaN for none, (S, d) of a joint score.

        Raises
        ------
        TypeError, ValueError
            As the score, if shapes do not fit, and if ``ids`` is not that of a waiting step. Nothing is learned then.
        """
        self._plan_update(rows, labels, ids=ids)()

    def forget(self, ids: Id = None) -> None:
        """Drop a step whose labels will never arrive; ValueError if it is not waiting."""
        self._check_waiting(ids)
        self._issued.pop(ids, None)

    def _check_waiting(self, ids: Id) -> None:
        if self._down and ids not in self._issued:
            raise ValueError(f"ids must be that of a predicted step that still waits for labels, got {ids!r}")

    def _plan_predict(self, rows: Array, *, ids: Id = None) -> tuple[NDArray[Any], Change]:
        rows, qhat = self._rows(rows), self.qhat
        sets: NDArray[Any] = (self.score.sets if self._classifies else self.score.interval)(rows, qhat)
        if rank(fewest := int(self._windows.counts.min()), self._alpha) > fewest and not self._warned:
            self._warned = True
            warn_too_few(fewest, self._alpha, "sets of such a stream are full")
        return sets, partial(self._issue, ids, qhat)

    def _issue(self, ids: Id, qhat: Floats) -> None:
        if self._down:
            self._issued.pop(ids, None)
            self._issued[ids] = qhat
        if len(self._issued) > self.predictor.max_pending:
            del self._issued[next(iter(self._issued))]

    def _plan_update(self, rows: Array, labels: Array, *, ids: Id = None) -> Change:
        host = self._rows(rows)
        scores, present = self._scores(host, labels)
        if ids is not None:
            self._check_waiting(ids)
        issued = self._issued.get(ids)
        if issued is None and self._down:
            issued = self.qhat
        classes = check_classes(host, None) if self._classifies else None

        def change() -> None:
            streams = np.flatnonzero(present)
            if issued is not None:
                self._now[streams] += self._up - self._down * (scores > issued)[present]
            self._issued.pop(ids, None)
            self._windows.add(scores[present], streams)
            self._classes = classes

        return change

    def _restart(self) -> None:
        # A miss moves the rank by about γ(size + 1): bands that hold several such steps are rarely renewed.
        width = min(32 + 10 * self._down * (self._size + 1) // self._whole, 2 * self._size)
        self._windows = Windows(self.streams, self._size, width)
        self._now = np.full(self.streams, self._alpha.numerator * (self._whole // self._alpha.denominator))
        self._issued: dict[Id, Floats] = {}
        self._classes = None
        self._warned = False

    def _rows(self, rows: Array) -> Floats:
        host = as_host_rows("rows", rows)
        if host.shape[:1] != (self.streams,):
            raise ValueError(f"rows must have shape ({self.streams}, ...), one for each stream, got {host.shape}")
        if self._classifies:
            check_classes(host, self._classes)
        return host

    def _scores(self, rows: Floats, labels: Array) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the score of each label, NaN without one, and whether there is one."""
        labels = as_host_labels("labels", labels, self._classifies)
        each = rows.shape[: rows.ndim - (self._classifies or self.score.columns > 1)]
        shape = each if self._classifies else self.score._targets(rows)  # joint scores have several targets a row
        if labels.shape != shape:
            raise ValueError(f"labels must have shape {shape}, as the rows, got {labels.shape}")
        present, scores = is_labelled(labels, self._classifies, len(each)), np.full(each, np.nan)
        if present.any():
            scores[present] = self.score(rows[present], labels[present])
            check_finite("scores", scores[present], np)
        return scores, present

    def _learned(self) -> State:
        return {
            "scores": self._windows.ring.flatten(),
            "places": self._windows.places.copy(),
            "levels": self._now.copy(),
            "ids": list(self._issued),
            "thresholds": np.asarray(list(self._issued.values()), dtype=np.float64).ravel(),
            "classes": self._classes,
        }

    def _restore(self, state: State) -> None:
        places = read_floats(state, "places", length=self.streams, least=0.0)
        levels = read_floats(state, "levels", length=self.streams)
        scores = as_host_rows("state", read_thresholds(state, "scores", length=self._size * self.streams))
        ids, classes = state["ids"], read_classes(state)
        refuse_if(
            not isinstance(ids, list) or not all(isinstance(one, (int, str, np.integer, type(None))) for one in ids),
            state,
            "ids that are integers or text",
        )
        issued = as_host_rows("state", read_thresholds(state, "thresholds", length=len(ids) * self.streams))
        ring = scores.reshape(self._size, self.streams)
        counts = np.isfinite(ring).sum(axis=0)
        unfit = (places != counts % self._size) & ((counts < self._size) | (places % 1 > 0) | (places >= self._size))
        refuse_if(
            unfit.any() or (ring == -np.inf).any() or (np.abs(levels) >= _EXACT).any() or (levels % 1).any(),
            state,
            "finite scores, the place of the next, and levels",
        )
        self._restart()
        self._windows.ring[:], self._windows.counts[:], self._windows.places[:] = ring, counts, places
        self._now, self._classes = levels.astype(np.int64), classes
        self._issued = dict(zip(ids, issued.reshape(len(ids), self.streams).copy(), strict=True))


def _settings(predictor: OnlineClassifier | OnlineRegressor) -> tuple[int, Fraction, Fraction]:
    """Return the size of the window, α, and γ (0 for a constant level), or raise TypeError."""
    kinds = (OnlineClassifier, OnlineRegressor)
    check_type("predictor", predictor, kinds, "be an OnlineClassifier or OnlineRegressor")
    check_one_alpha("predictor", predictor)
    memory, level, score = predictor.memory, predictor.level, predictor.score
    fits = type(memory) is Window and type(level) in {Constant, ACI} and not getattr(score, "randomized", False)
    if not fits:
        rule = "memory Window, level Constant or ACI, and a score that is not randomized"
        raise TypeError(f"predictor must have {rule}, got {predictor!r}")
    return memory.state_dict()["size"], level.alpha, getattr(level, "gamma", Fraction(0))
