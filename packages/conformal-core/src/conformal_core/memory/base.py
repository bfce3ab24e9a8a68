"""What a memory is: the past scores that a new one is compared with."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import numpy as np

from conformal_core._arrays import array_namespace
from conformal_core._convert import as_floating
from conformal_core._settings import Resettable
from conformal_core._state import State
from conformal_core.checks import check_finite, is_checked

Array = Any


@runtime_checkable
class Memory(Protocol):
    """Past scores, and the order statistics of them.

    A memory knows no labels, no model and no level. A new one defines these methods; see ``memory/history.py`` for the
    smallest.
    """

    def __len__(self) -> int:
        """Return the number of scores remembered."""
        ...

    def reset(self) -> None:
        """Forget all scores, and return to the state the memory was made in."""
        ...

    def add(self, score: float) -> None:
        """Take in the next score of a stream."""
        ...

    def extend(self, scores: Array, *, check: bool | None = None) -> None:
        """Take in many scores, in their order."""
        ...

    def quantile(self, alpha: Fraction, /) -> Array | float:
        """Threshold at the exact level ``alpha``: +∞ where the memory is too small for it, −∞ from a level of 1 on."""
        ...

    def p_values(self, scores: Array, u: Array | float | None = None) -> Array:
        """p-value of every score against the memory; see :func:`conformal_core.p_values`."""
        ...

    def state_dict(self) -> State:
        """Return the memory as arrays and numbers."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved memory."""
        ...


class StreamMemory(Resettable, ABC):
    """A memory that takes in one score after another, as numbers of the host."""

    @abstractmethod
    def add(self, score: float) -> None:
        """Take in the next score of a stream."""

    def extend(self, scores: Array, *, check: bool | None = None) -> None:
        """Remember scores of any shape, in their order.

        Raises
        ------
        TypeError
            If ``scores`` is not an array of real floating-point numbers.
        ValueError
            If a score is not finite. Nothing is remembered then.
        """
        for score in finite_floats(scores, check):
            self.add(score)


def finite_floats(scores: Array, check: bool | None) -> list[float]:
    """Check scores of any shape and return them as numbers, in row-major order."""
    if type(scores) is np.ndarray and scores.ndim == 0 and scores.dtype.kind == "f":
        score = float(scores)
        if check is False or math.isfinite(score):
            return [score]
    scores = as_floating("scores", scores)
    xp = array_namespace(scores=scores)
    if is_checked(scores, check):
        check_finite("scores", scores, xp)
    flat: Iterable[Any] = xp.reshape(scores, (-1,))
    return flat.tolist() if hasattr(flat, "tolist") else [float(score) for score in flat]
