"""Calibration set of a training loop: fixed rows whose scores are updated as the model changes."""

import math
from collections.abc import Sequence
from typing import Any

import array_api_compat
import numpy as np

from conformal_core._arrays import array_namespace, device, is_torch, rounded_up
from conformal_core._convert import as_floating, as_integers
from conformal_core._settings import Saved
from conformal_core._state import State, read_count, read_thresholds, refuse_if
from conformal_core.checks import check_count, check_finite, is_checked
from conformal_core.quantile import Alpha, conformal_quantile

Array = Any


class CalibrationBuffer(Saved):
    """Scores of N fixed calibration rows, overwritten by index, with the age of each score.

    Everything stays on the device of ``like``, without synchronisation with the host.

    Parameters
    ----------
    size
        Number N of calibration rows, at least 1.
    like : array of real floating-point numbers, optional
        Library, dtype and device of the scores. If None, numpy and float64.

    Raises
    ------
    TypeError, ValueError
        If ``size`` is not an integer of at least 1, or ``like`` not a floating-point array.

    Notes
    -----
    A row without a score counts as +∞, so sets are too large rather than too small until every row has been scored.
    The guarantee is that of split prediction if one model scored all rows. While scores of earlier models remain
    (``staleness`` > 0) there is none.

    Examples
    --------
    >>> import numpy as np
    >>> buffer = CalibrationBuffer(4)
    >>> buffer.overwrite(np.asarray([0, 1, 2]), np.asarray([0.1, 0.3, 0.2]))
    >>> buffer.quantile(alpha=0.4)
    array(0.3)
    >>> buffer.advance()
    >>> buffer.overwrite(np.asarray([3]), np.asarray([0.4]))
    >>> buffer.ages
    array([1, 1, 1, 0])
    """

    _kind = "CalibrationBuffer"

    def __init__(self, size: int, *, like: Array | None = None) -> None:
        size = check_count("size", size)
        like = as_floating("like", np.zeros(()) if like is None else like)
        xp = array_namespace(like=like)
        where = device(like)
        self._xp = xp
        self._step = 0
        self._scores = xp.full((size,), math.inf, dtype=like.dtype, device=where)
        self._scored_at = xp.full((size,), -1, dtype=xp.int64, device=where)

    def __len__(self) -> int:
        return int(self._scores.shape[0])

    def __repr__(self) -> str:
        if isinstance(self._scores, np.ndarray) and self._scores.dtype == np.float64:
            return f"CalibrationBuffer({len(self)})"
        library, dtype = type(self._scores).__module__.split(".")[0], str(self._scores.dtype).rsplit(".", 1)[-1]
        where = f", device={str(device(self._scores))!r}" if is_torch(self._scores) else ""
        return f"CalibrationBuffer({len(self)}, like={library}.zeros((), dtype={library}.{dtype}{where}))"

    def _arguments(self) -> dict[str, Any]:
        return {"size": len(self), "like": self._xp.zeros((), dtype=self._scores.dtype, device=device(self._scores))}

    @property
    def scores(self) -> Array:
        """Current scores, shape (N,), +∞ for rows without a score; a copy."""
        return self._xp.asarray(self._scores, copy=True)

    @property
    def step(self) -> int:
        """Number of steps taken, as counted by :meth:`advance`."""
        return self._step

    @property
    def ages(self) -> Array:
        """Steps since each row was scored, int64, shape (N,); without a score, one more than ``step``."""
        return self._step - self._scored_at

    @property
    def staleness(self) -> Array:
        """Age of the oldest score, a 0-d int64 array."""
        return self._xp.max(self.ages)

    def advance(self, steps: int = 1) -> None:
        """Count optimizer steps: the age of every score grows by ``steps``."""
        self._step += check_count("steps", steps, least=0)

    def overwrite(self, index: Array | slice, scores: Array, *, check: bool | None = None) -> None:
        """Replace the scores of some rows by scores of the current step.

        Parameters
        ----------
        index : array of int, shape (n,), or slice, or int
            Distinct rows in 0..N−1.
        scores : array, shape (n,), or a number beside an int
            New scores, finite. Gradients are dropped.
        check
            Whether to check values. If None, only if the host can read them without a sync.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong kind, library, shape or range, or an index occurs twice; nothing changes then.
        """
        xp = self._xp
        scores = as_floating("scores", scores, self._scores)
        array_namespace(buffer=self._scores, scores=scores)
        if isinstance(index, slice):
            shape: Sequence[int] = (len(range(*index.indices(len(self)))),)
        else:
            index = as_integers("index", index, self._scores)  # of 64 bits: torch takes bytes for a mask
            if index.ndim == scores.ndim == 0:
                index, scores = index[None], scores[None]
            shape = tuple(index.shape)
            if is_checked(index, check):
                self._check_index(index)
        if len(shape) != 1 or tuple(scores.shape) != tuple(shape):
            raise ValueError(
                f"index and scores must have the same shape (n,), got {tuple(shape)} and {tuple(scores.shape)}"
            )
        check_finite("scores", scores, xp, check=check)
        if is_torch(scores):
            scores = scores.detach()
        self._scores = _put(self._scores, index, rounded_up(scores, self._scores.dtype))
        now = xp.full(scores.shape, self._step, dtype=xp.int64, device=device(self._scored_at))
        self._scored_at = _put(self._scored_at, index, now)

    def quantile(self, *, alpha: Alpha | Sequence[Alpha]) -> Array:
        """Threshold over the whole buffer, a 0-d array on its device; see :func:`conformal_core.conformal_quantile`."""
        # Scores were checked by `overwrite`; +∞ marks a row without one.
        return conformal_quantile(self._scores, alpha=alpha, check=False)

    def merge(self, *others: "CalibrationBuffer") -> None:
        """Take, row by row, the newest score of this buffer and others of the same rows.

        Ranks of a distributed job that score disjoint rows then have the buffer of a single process. Of two scores of
        the same step the larger is taken, so the order of merging does not matter.

        Raises
        ------
        ValueError
            If a buffer has another size.
        """
        xp = self._xp
        for other in others:
            array_namespace(buffer=self._scores, other=other._scores)
            if len(other) != len(self):
                raise ValueError(f"buffers to merge must have size {len(self)}, got {len(other)}")
            scores = rounded_up(other._scores, self._scores.dtype)
            newer = other._scored_at > self._scored_at
            larger = (other._scored_at == self._scored_at) & (scores > self._scores)
            self._scores = xp.where(newer | larger, scores, self._scores)
            self._scored_at = xp.where(newer, other._scored_at, self._scored_at)
            self._step = max(self._step, other._step)

    def _learned(self) -> State:
        scored_at = self._xp.asarray(self._scored_at, copy=True)
        return {"step": self._step, "scores": self.scores, "scored_at": scored_at}

    def _restore(self, state: State) -> None:
        step, scores = read_count(state, "step"), read_thresholds(state, "scores", length=len(self))
        scored_at, xp = state["scored_at"], self._xp
        array_namespace(buffer=self._scores, scores=scores, scored_at=scored_at)
        refuse_if(
            not xp.isdtype(scored_at.dtype, "integral") or tuple(scored_at.shape) != (len(self),),
            state,
            f"{len(self)} integers as scored_at",
        )
        where = device(self._scores)
        self._scores = xp.asarray(rounded_up(scores, self._scores.dtype), device=where, copy=True)
        self._scored_at = xp.asarray(scored_at, dtype=xp.int64, device=where, copy=True)
        self._step = step

    def _check_index(self, index: Array) -> None:
        xp = self._xp
        if index.shape[0] == 0:
            return
        low, high = int(xp.min(index)), int(xp.max(index))
        if low < 0 or high >= len(self):
            raise ValueError(f"index must lie in 0..{len(self) - 1}, got {low if low < 0 else high}")
        if xp.unique_values(index).shape[0] != index.shape[0]:
            raise ValueError("index must hold distinct rows, got one twice")


def _put(target: Array, index: Array | slice, values: Array) -> Array:
    """Return ``target`` with ``values`` at ``index``: in place where the library allows it."""
    if array_api_compat.is_jax_array(target):
        return target.at[index].set(values)
    if isinstance(index, slice) or isinstance(target, np.ndarray) or is_torch(target):
        target[index] = values
        return target
    # The standard has no assignment by an array of indices.
    for position in range(index.shape[0]):
        target[int(index[position])] = values[position]
    return target
