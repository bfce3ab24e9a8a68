"""Interface of memories, which hold past scores, and the fixed memory of split conformal prediction."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import array_namespace, below, beside, device, is_torch, to_host
from conformal_core._convert import as_floating
from conformal_core._settings import Resettable, Saved
from conformal_core._state import State, read_thresholds
from conformal_core.checks import check_finite
from conformal_core.quantile import rank
from conformal_core.sets import smoothed, sorted_p_values

Array = Any


@runtime_checkable
class Memory(Protocol):
    """Past scores and their order statistics.

    A memory holds scores, not labels, and does not depend on the model or the level. Any object with these methods is a
    memory; it need not subclass this protocol. See ``History`` in ``memory/ordered.py`` for the smallest.
    """

    def __len__(self) -> int:
        """Return the number of scores."""

    def reset(self) -> None:
        """Remove all scores and restore the initial state; called by ``calibrate`` of a predictor."""

    def add(self, score: float) -> None:
        """Add the next score of a stream, a finite float."""

    def extend(self, scores: Array, *, check: bool | None = None) -> None:
        """Add scores of any shape, in row-major order.

        Raises
        ------
        TypeError
            If ``scores`` is not an array of real floating-point numbers.
        ValueError
            If a score is not finite; none is added then.
        """

    def quantile(self, alpha: Fraction, /) -> Array | float:
        """Return the threshold at miscoverage ``alpha``, which may lie outside (0, 1).

        +∞ if the memory has too few scores for it (always for ``alpha`` ≤ 0), −∞ for ``alpha`` ≥ 1: a float or a 0-d
        array.
        """

    def p_values(self, scores: Array, /, *, u: Array | float | None = None) -> Array:
        """Return the p-value of every score against the memory; see :func:`conformal_core.p_values`."""

    def state_dict(self) -> State:
        """Return the memory as arrays and numbers."""

    def load_state_dict(self, state: State) -> None:
        """Restore a saved memory."""


class StreamMemory(Saved, Resettable, ABC):
    """Base of memories that hold double-precision scores on the host and add one at a time."""

    @abstractmethod
    def add(self, score: float) -> None:
        """Add the next score of a stream, a finite float."""

    def extend(self, scores: Array, *, check: bool | None = None) -> None:
        """See :meth:`Memory.extend`."""
        for score in finite_floats(scores, check):
            self.add(score)

    def p_values(self, scores: Array, /, *, u: Array | float | None = None) -> Array:
        """p-value of every score against the memory; see :func:`conformal_core.p_values`."""
        scores = as_floating("scores", scores)
        above, whole, own = self._weights_above()
        if u is None and type(scores) is np.ndarray:
            values = below(scores).reshape(-1)
            at_least = np.asarray(above(values), dtype=np.float64).reshape(scores.shape)
            return (at_least + own) / (whole + 1.0 - 1.0 + own)
        xp = array_namespace(scores=scores)
        where = {"dtype": xp.float64, "device": device(scores)}

        def weight(values: Array) -> Array:
            flat = xp.reshape(values, (-1,))
            host = to_host(flat) if hasattr(flat, "tolist") else np.asarray([float(value) for value in flat])
            return xp.asarray(np.asarray(above(host)).reshape(values.shape), **where)

        at_least, total = weight(below(scores)), xp.asarray(whole + 1.0, **where)
        if u is None:
            return (at_least + own) / (total - 1.0 + own)
        return smoothed(weight(xp.astype(scores, xp.float64)), at_least, u, total, check=None)

    @abstractmethod
    def _weights_above(self) -> tuple[Callable[[NDArray[np.float64]], Any], float, float]:
        """Return a function from values (n,) to the weights of the scores above each, the total, and a new score's."""


def finite_floats(scores: Array, check: bool | None) -> list[float]:
    """Check scores of any shape and return them as floats, in row-major order."""
    if type(scores) is np.ndarray:
        single = scores.size == 1 and scores.dtype.char in "fd"
    else:
        single = is_torch(scores) and scores.numel() == 1 and scores.dtype.is_floating_point
    if single:
        score = float(scores.item())
        if check is False or math.isfinite(score):
            return [score]
    scores = as_floating("scores", scores)
    xp = array_namespace(scores=scores)
    check_finite("scores", scores, xp, check=check)
    flat: Iterable[Any] = xp.reshape(scores, (-1,))
    return flat.tolist() if hasattr(flat, "tolist") else [float(score) for score in flat]


class Fixed(Saved, Resettable):
    """Calibration scores kept sorted, in the library and on the device they came from.

    Only :meth:`extend` adds scores; :meth:`add`, which a stream calls, does nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from fractions import Fraction
    >>> memory = Fixed()
    >>> memory.extend(np.asarray([0.3, 0.1, 0.2]))
    >>> memory.quantile(Fraction(1, 4))
    array(0.3)
    """

    _kind = "Fixed"

    def __init__(self) -> None:
        self._sorted: Array | None = None

    def __len__(self) -> int:
        return 0 if self._sorted is None else int(self._sorted.shape[0])

    def extend(self, scores: Array, *, check: bool | None = None) -> None:
        """Add calibration scores of any shape; see :meth:`Memory.extend`."""
        scores = as_floating("scores", scores, self._sorted)
        xp = array_namespace(scores=scores)
        check_finite("scores", scores, xp, check=check)
        flat = xp.reshape(scores, (-1,))
        if self._sorted is not None:
            flat = beside(flat, self._sorted)
            xp = array_namespace(scores=flat)
            flat = xp.concat([self._sorted, flat])  # in the wider precision of the two
        self._sorted = xp.sort(flat, stable=False)

    def add(self, score: float) -> None:
        """Do nothing: the calibration set is fixed."""

    def quantile(self, alpha: Fraction, /) -> Array:
        """Threshold at miscoverage ``alpha``, a 0-d array; ±∞ if the rank lies outside the set."""
        n, scores = len(self), self._sorted
        k = rank(n, alpha)
        if 1 <= k <= n and scores is not None:
            value = scores[k - 1]
            return np.asarray(value) if isinstance(value, np.generic) else value
        outside = math.inf if k > n else -math.inf
        if scores is None:
            return np.asarray(outside)
        return array_namespace(scores=scores).asarray(outside, dtype=scores.dtype, device=device(scores))

    def p_values(self, scores: Array, /, *, u: Array | float | None = None) -> Array:
        """p-value of every score, see :func:`conformal_core.p_values`."""
        scores = as_floating("scores", scores, self._sorted)
        xp = array_namespace(scores=scores)
        empty = xp.zeros((0,), dtype=scores.dtype, device=device(scores))
        return sorted_p_values(empty if self._sorted is None else beside(self._sorted, scores), scores, u, check=None)

    def _learned(self) -> State:
        return {"scores": self._sorted}

    def _restore(self, state: State) -> None:
        scores = read_thresholds(state, "scores", infinite=False)
        self._sorted = None if scores is None else array_namespace(scores=scores).sort(scores, stable=False)
