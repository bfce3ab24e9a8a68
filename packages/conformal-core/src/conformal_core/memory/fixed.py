"""Fixed calibration set: the memory of split conformal prediction."""

import math
from fractions import Fraction
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, beside, device
from conformal_core._convert import as_floating
from conformal_core._rank import rank
from conformal_core._settings import Resettable, Saved
from conformal_core._state import State, read_thresholds
from conformal_core.checks import check_finite
from conformal_core.sets import sorted_p_values

Array = Any


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

    def p_values(self, scores: Array, u: Array | float | None = None) -> Array:
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
