"""Forecasts of several steps ahead, whose observations arrive later."""

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._settings import Saved
from conformal_core._state import State, load_together, read_count, read_floats, read_states, refuse_if
from conformal_core.checks import check_count, check_type
from conformal_core.predictors._base import OnlinePredictor, as_host_labels, as_host_rows, check_one_alpha, is_labelled
from conformal_core.predictors.streams import Streams

Array = Any


class Horizons(Saved):
    """Prediction sets or intervals for the next h steps, with an online predictor for each horizon.

    :meth:`predict` may follow each :meth:`update`, for rolling forecasts, or every h of them, for day-ahead forecasts.
    An observation updates the predictors of all forecasts of its step, the earliest forecast first.

    Parameters
    ----------
    predictor
        :class:`OnlineRegressor`, :class:`OnlineClassifier`, or :class:`Streams` for many series, which is copied for
        each horizon. Its ``max_pending`` limits the forecasts that may wait.
    horizons
        Number of horizons h, at least 1.
    shared
        Whether one predictor serves all horizons, so that more scores set the threshold, the same for all.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range.

    Attributes
    ----------
    predictors : tuple of length h
    time : int
        Number of steps observed since the start or calibration.

    Notes
    -----
    Guarantee: that of memory and level, at each horizon. Errors of overlapping forecasts depend on each other, so a
    constant level has none for h > 1; that of :class:`ACI` holds with d = k − 1 waiting sets at horizon k of rolling
    forecasts, and d = 0 for day-ahead ones. Arguments are converted to float64 numpy arrays.

    Examples
    --------
    >>> from conformal_core import AbsoluteResidual, OnlineRegressor
    >>> predictor = Horizons(OnlineRegressor(AbsoluteResidual(), alpha=0.5), 2)
    >>> predictor.calibrate([[10.0, 10.0]] * 3, [[11.0, 12.0], [12.0, 14.0], [13.0, 16.0]])
    >>> predictor.predict([10.0, 10.0])
    array([[ 8., 12.],
           [ 6., 14.]])
    >>> predictor.update(None)  # no observation of the first step
    >>> predictor.update(20.0)
    >>> predictor.predict([20.0, 20.0])
    array([[18., 22.],
           [14., 26.]])
    """

    _kind, _saved = "Horizons", ("horizons", "shared")
    predictor: OnlinePredictor | Streams
    horizons: int
    shared: bool
    predictors: tuple[Any, ...]
    time: int
    _row_shape: tuple[int, ...] = ()

    def __init__(self, predictor: OnlinePredictor | Streams, horizons: int, *, shared: bool = False) -> None:
        kinds = (OnlinePredictor, Streams)
        rule = "be an OnlineRegressor, OnlineClassifier or Streams (for two ends, or groups, make a Horizons of each)"
        check_type("predictor", predictor, kinds, rule)
        check_one_alpha("predictor", predictor)
        check_type("shared", shared, bool, "be True or False")
        self.predictor, self.horizons, self.shared = predictor, check_count("horizons", horizons), shared
        self._classifies, self._several = hasattr(predictor.score, "sets"), isinstance(predictor, Streams)
        self._start(self._fresh())

    @property
    def qhat(self) -> NDArray[np.float64]:
        """Threshold of the next prediction at each horizon, (h,) or (h, S)."""
        return np.stack([predictor.qhat for predictor in self.predictors])

    @property
    def pending(self) -> int:
        """Number of forecasts, one for each horizon and call of :meth:`predict`, whose step was not observed yet."""
        return sum(map(len, self._waiting.values()))

    def calibrate(self, forecasts: Array, observations: Array) -> None:
        """Start from N past forecasts (N, h, …) and the observations (N, h, …) of their steps, which may be missing.

        This replaces everything learned before.
        """
        rows = as_host_rows("forecasts", forecasts)
        labels = as_host_labels("observations", observations, self._classifies)
        if rows.ndim < 2 or rows.shape[1] != self.horizons or labels.shape[:2] != rows.shape[:2]:
            rule = f"forecasts and observations must have shape (N, {self.horizons}, ...)"
            raise ValueError(f"{rule}, got {rows.shape} and {labels.shape}")
        if self.shared:
            rows, labels = (array.reshape(-1, 1, *array.shape[2:]) for array in (rows, labels))
        predictors = self._fresh()
        for k, predictor in enumerate(predictors):
            own, seen = rows[:, k], labels[:, k]
            here = slice(None) if self._several else is_labelled(seen, self._classifies, 1)
            predictor.calibrate(own[here], seen[here])
        self._start(predictors)

    def predict(self, forecasts: Array, *, gap: int = 0) -> NDArray[Any]:
        """Predict the h steps that follow the last observed one, or follow it after a gap.

        Parameters
        ----------
        forecasts : array, shape (h, …)
            One row of the predictor for each horizon: predictions (h,), probabilities (h, K), or those of S series
            (h, S, …). A second forecast of the same step and horizon replaces the first.
        gap
            Number of steps between the last observed one and the first forecast, at least 0.

        Returns
        -------
        array, shape (h, …, 2) or (h, …, K)

        Raises
        ------
        TypeError, ValueError
            As the predictor, and if ``gap`` or the number of rows is wrong. Nothing changes then.
        """
        rows = as_host_rows("forecasts", forecasts).copy()
        shape = (self.horizons, *(self._row_shape if self._waiting else rows.shape[1:]))
        if rows.shape != shape:
            raise ValueError(f"forecasts must have shape {shape}, got {rows.shape}")
        first = self.time + check_count("gap", gap, least=0)
        plans = [self.predictors[k]._plan_predict(row, ids=f"{first + k} {k}") for k, row in enumerate(rows)]
        for k, (_, issue) in enumerate(plans):
            issue()
            self._waiting.setdefault(first + k, {})[k] = rows[k]
        self._row_shape = shape[1:]
        return np.stack([sets for sets, _ in plans])

    def update(self, observation: Array | None) -> None:
        """Learn from the observation of the next step, at every horizon that forecast it.

        Parameters
        ----------
        observation
            A target, NaN if it is missing; a label, −1 if it is missing; or those of S series, (S,). None if all are.

        Raises
        ------
        TypeError, ValueError
            As the predictor. Nothing is learned then.
        """
        label = None if observation is None else as_host_labels("observation", observation, self._classifies)
        missing = label is None or not is_labelled(label, self._classifies, int(self._several)).any()
        changes = []
        for k, row in self._waiting.get(self.time, {}).items():
            predictor, key = self.predictors[k], f"{self.time} {k}"
            change = partial(predictor.forget, key) if missing else predictor._plan_update(row, label, ids=key)
            changes.append(change)
        for change in changes:
            change()
        self._waiting.pop(self.time, None)
        self.time += 1

    def _fresh(self) -> tuple[Any, ...]:
        return tuple(self.predictor.__sklearn_clone__() for _ in range(1 if self.shared else self.horizons))

    def _start(self, predictors: tuple[Any, ...]) -> None:
        self.predictors = predictors * self.horizons if self.shared else predictors
        self.time = 0
        self._waiting: dict[int, dict[int, NDArray[np.float64]]] = {}  # rows by step and horizon

    def _learned(self) -> State:
        rows = {(step, k): row for step, own in self._waiting.items() for k, row in own.items()}
        return {
            "predictors": [predictor.state_dict() for predictor in self.predictors[: 1 if self.shared else None]],
            "time": self.time,
            "waiting": np.asarray(list(rows), dtype=np.float64).reshape(-1, 2),
            "rows": np.asarray(list(rows.values()), dtype=np.float64).ravel(),
            "shape": np.asarray(self._row_shape, dtype=np.float64),
        }

    def _restore(self, state: State) -> None:
        time, waiting = read_count(state, "time"), read_floats(state, "waiting", columns=2, least=0.0)
        shape = tuple(read_floats(state, "shape", least=1.0).astype(np.int64).tolist())
        rows = read_floats(state, "rows", length=len(waiting) * math.prod(shape)).reshape(len(waiting), *shape)
        refuse_if(
            (waiting % 1).any() or (waiting[:, 0] < time).any() or (waiting[:, 1] >= self.horizons).any(),
            state,
            f"steps from {time} on and horizons",
        )
        predictors = self._fresh()
        load_together(*zip(predictors, read_states(state, "predictors", len(predictors)), strict=True))
        self._start(predictors)
        self.time, self._row_shape = time, shape
        for (step, k), row in zip(waiting.astype(np.int64).tolist(), rows, strict=True):
            self._waiting.setdefault(step, {})[k] = row
