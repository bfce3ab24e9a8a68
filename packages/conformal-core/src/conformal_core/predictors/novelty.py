"""Test and weight of inputs by a novelty score."""

import math
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, beside
from conformal_core._convert import as_floating, as_threshold
from conformal_core._settings import Saved
from conformal_core._state import State, load_together, refuse_if
from conformal_core.checks import check_score, check_type
from conformal_core.memory.base import Fixed, Memory
from conformal_core.quantile import Alpha, miscoverage, rank, warn_too_few

Array = Any
_ROUNDING = 16  # units in the last place


class NoveltyGate(Saved):
    """p-values and weights of inputs by their novelty score, without labels.

    An input with score s has weight 1 if s ≤ q̂, and q̂ / s otherwise. Squared distances give weights by inverse
    variance.

    Parameters
    ----------
    score
        Fitted novelty score, such as ``Mahalanobis(classes=K)``: any callable that maps features (..., d) to scores
        (...), larger for unusual rows. One with ``state_dict`` and ``load_state_dict`` is saved with the gate; a
        ``check`` that is not None is passed on.
    alpha
        Fraction of inputs like those of calibration with a weight below 1, in (0, 1).
    memory
        Memory of the calibration scores. If None, ``Fixed()``; use ``Window(n)`` for inputs that drift.

    Raises
    ------
    TypeError, ValueError
        If ``score`` cannot be called, or ``alpha`` is not a number in (0, 1).

    Notes
    -----
    Guarantee, on average over calibration sets: for an input exchangeable with the calibration inputs P(weight < 1) ≤
    α, and P(p ≤ t) ≤ t for every t; Bates, Candès, Lei, Romano and Sesia, *Testing for outliers with conformal
    p-values* (2023). Calibration rows must not be training rows. A weight costs O(1), a p-value O(log N).

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import Mahalanobis
    >>> rng = np.random.default_rng(0)
    >>> score = Mahalanobis()
    >>> score.update(rng.normal(size=(500, 4)))
    >>> gate = NoveltyGate(score, alpha=0.02)
    >>> gate.calibrate(rng.normal(size=(200, 4)))
    >>> gate.weights(np.asarray([[0.1, 0.2, -0.3, 0.0], [9.0, 9.0, 9.0, 9.0]])).round(2)
    array([1.  , 0.03])
    >>> gate.p_values(np.asarray([[9.0, 9.0, 9.0, 9.0]])).round(3)
    array([0.005])
    """

    _kind, _saved = "NoveltyGate", ("alpha",)

    def __init__(self, score: Any, *, alpha: Alpha = 0.05, memory: Memory | None = None) -> None:
        check_score(score)
        check_type("memory", memory, (Memory, type(None)), "have the methods of Memory")
        self._alpha = miscoverage(alpha)
        self.score = score
        self.alpha = alpha
        self.memory: Memory = Fixed() if memory is None else memory
        self._warned_at = -1  # scores in the memory

    @property
    def qhat(self) -> Array:
        """Threshold, a 0-d array of the library and device of the memory's scores; +∞ while they are too few."""
        n, qhat = len(self.memory), self.memory.quantile(self._alpha)
        few = qhat == math.inf if isinstance(qhat, float) else rank(n, self._alpha) > n  # without a look at a device
        if few and n != self._warned_at:
            self._warned_at = n
            warn_too_few(n, self._alpha, "no input is down-weighted")
        return np.asarray(qhat) if isinstance(qhat, float) else qhat

    def calibrate(self, features: Array, *, check: bool | None = None) -> None:
        """Replace the calibration features by these, (..., d)."""
        scores = self._scores(features, check)
        self.memory.reset()
        self.memory.extend(scores, check=False)

    def update(self, features: Array, *, check: bool | None = None) -> None:
        """Add calibration features (..., d) to those there."""
        self.memory.extend(self._scores(features, check), check=False)

    def weights(self, features: Array, *, check: bool | None = None) -> Array:
        """Weights (...) in [0, 1] of features (..., d); 0 where a score is infinite."""
        scores = self._lowered_scores(features, check)
        xp = array_namespace(scores=scores)
        qhat = as_threshold(beside(self.qhat, scores), tuple(scores.shape), scores, check=False)
        one, inside = xp.ones_like(scores), scores <= qhat
        return xp.where(inside, one, xp.where(inside, one, qhat) / xp.where(inside, one, scores))

    def p_values(self, features: Array, *, u: Array | float | None = None, check: bool | None = None) -> Array:
        """p-value of every row, (...), small for unusual inputs; see :func:`conformal_core.p_values`."""
        return self.memory.p_values(self._lowered_scores(features, check), u=u)

    def _scores(self, features: Array, check: bool | None) -> Array:
        return self.score(features) if check is None else self.score(features, check=check)

    def _lowered_scores(self, features: Array, check: bool | None) -> Array:
        """Scores less possible rounding errors of matrix products, which differ between batches."""
        scores = as_floating("scores", self._scores(features, check))
        xp = array_namespace(scores=scores)
        return xp.asarray(scores * (1.0 - _ROUNDING * xp.finfo(scores.dtype).eps * xp.sign(scores)))

    def _learned(self) -> State:
        score = self.score.state_dict() if hasattr(self.score, "state_dict") else None
        return {"memory": self.memory.state_dict(), "score": score}

    def _restore(self, state: State) -> None:
        saved = state["score"]
        refuse_if((saved is None) == hasattr(self.score, "load_state_dict"), state, "a score of the same kind as here")
        load_together((self.memory, state["memory"]), *([] if saved is None else [(self.score, saved)]))
