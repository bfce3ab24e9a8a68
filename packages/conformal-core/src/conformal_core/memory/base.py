"""Interface of memories, which hold past scores."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import array_namespace, device, is_torch, to_host
from conformal_core._convert import as_floating
from conformal_core._precision import below
from conformal_core._settings import Resettable, Saved
from conformal_core._state import State
from conformal_core.checks import check_finite
from conformal_core.sets import smoothed

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

    def p_values(self, scores: Array, u: Array | float | None = None) -> Array:
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

    def p_values(self, scores: Array, u: Array | float | None = None) -> Array:
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
