"""Base of the classification scores: input checks, scores of one or all labels, prediction sets."""

import math
import random
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from conformal_core._arrays import array_namespace, device, host_view, is_torch, narrow, to_host
from conformal_core._convert import as_draws, as_labels, as_rows, as_threshold, in_form_of, single_label, single_row
from conformal_core.checks import (
    check_floating,
    check_labels,
    check_shape,
    distribution_error,
    is_checked,
    is_distribution,
)
from conformal_core.scores._rows import map_rows
from conformal_core.scores.nonconformity import NonconformityScore, ReliabilityKind, at_least_single
from conformal_core.sets import prediction_set, rank_reliability, take_label

Array = Any

_SYSTEM = random.SystemRandom()


class _NotProbabilitiesError(Exception):
    """A chunk contains an invalid row, which is located on the full array."""


class ClassificationScore(NonconformityScore):
    """Base of the classification scores: a frozen callable on rows of probabilities.

    A new score defines ``compute``, and ``compute_sets`` if sets are cheaper than the scores of all labels.

    Attributes
    ----------
    normalized : bool
        Whether rows must sum to 1. False accepts any finite numbers that are not negative.
    randomized : bool
        Whether each row needs a uniform draw.
    sorts : bool
        Whether ``compute`` sorts rows, so large arrays use all cores.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core.sets import take_label
    >>> class Odds(ClassificationScore):
    ...     def compute(self, probs, labels, u):
    ...         scores = (1 - probs) / probs
    ...         return scores if labels is None else take_label(scores, labels)
    >>> Odds()(np.asarray([[0.5, 0.5], [0.8, 0.2]]), np.asarray([0, 1]))
    array([1., 4.])
    """

    reliability_kinds: ClassVar[tuple[ReliabilityKind, ...]] = ("normalized", "reciprocal", "probability")
    default_loss: ClassVar[str | None] = "cross_entropy"
    normalized: bool = True
    randomized: bool = False
    sorts: ClassVar[bool] = False

    @abstractmethod
    def compute(self, probs: Array, labels: Array | int | None, u: Array | None) -> Array:
        """Return the scores of all labels (..., K), or of ``labels`` (...), for checked rows; an int labels one row."""

    def compute_sets(self, probs: Array, qhat: Array | float, u: Array | None) -> Array:
        """Prediction sets of checked rows at one threshold."""
        if isinstance(probs, np.ndarray) and isinstance(qhat, float):
            return self.compute(probs, None, u) <= qhat
        return prediction_set(self.compute(probs, None, u), qhat, check=False)

    def __call__(
        self, probs: Array, labels: Array | int | None = None, /, *, u: Array | None = None, check: bool | None = None
    ) -> Array:
        """Score all labels, or one label per row, by the same arithmetic.

        Parameters
        ----------
        probs : array, shape (..., K)
            Probabilities.
        labels : array of int, broadcast to shape (...), optional
            Labels to score. If None, all labels.
        u : array in [0, 1], broadcast to shape (...), optional
            Uniform draws of a randomized score. If None, new ones.
        check
            Whether to check values. If None, only if the host can read them without a sync.

        Returns
        -------
        array, shape (..., K) or (...)
            Same library, dtype and device as ``probs``.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong kind, library, shape or range, or a score that is not randomized gets ``u``.
        """
        row = None if u is not None and not self.randomized else single_row(probs, check, normalized=self.normalized)
        label = None if labels is None or row is None else single_label(labels, probs)
        if row is not None and (labels is None or label is not None):
            values = self.compute(row, label, self._draw_of_row(row, probs, u, check) if self.randomized else None)
            return np.asarray(values) if row is probs else in_form_of(probs, values)
        probs = as_rows("probs", probs)
        if labels is not None:
            labels = as_labels(labels, probs, check=check)
        return self._map(self.compute, probs, labels, u, check)

    def of_row(self, probs: Array, label: Array | int, /, *, check: bool | None = None) -> float | None:
        """Return the score of one label of one row, the fast way; None if a call has to accept or refuse it."""
        row = single_row(probs, check, normalized=self.normalized)
        place = None if row is None else single_label(label, probs)
        if row is None or place is None:
            return None
        score = float(self.compute(row, place, self._draw_of_row(row, probs, None, check) if self.randomized else None))
        return score if math.isfinite(score) else None

    def sets(
        self,
        probs: Array,
        qhat: Array | float,
        *,
        u: Array | None = None,
        nonempty: bool = False,
        check: bool | None = None,
    ) -> Array:
        """Prediction sets (..., K) of the labels whose score is at most ``qhat``, broadcast against (...).

        The same sets as ``prediction_set(score(probs), qhat)``, without the scores of all labels in memory.
        """
        plain = (u is None or self.randomized) and not nonempty and isinstance(qhat, float) and not math.isnan(qhat)
        row = single_row(probs, check, normalized=self.normalized) if plain else None
        if row is not None:
            draw = self._draw_of_row(row, probs, u, check) if self.randomized else None
            inside = self.compute_sets(row, narrow(qhat, row), draw)
            return inside if row is probs else in_form_of(probs, inside)
        probs = as_rows("probs", probs)
        if nonempty or not isinstance(qhat, (int, float)) or math.isnan(qhat):
            qhat = as_threshold(qhat, tuple(probs.shape[:-1]), probs, check=check)
            if nonempty or qhat.ndim > 0:
                return prediction_set(self(probs, u=u, check=check), qhat, nonempty=nonempty, check=False)
            if host_view(probs) is not None:
                qhat = float(qhat)
        else:
            qhat = narrow(float(qhat), probs)
        return self._map(lambda p, _, v: self.compute_sets(p, qhat, v), probs, None, u, check)

    def check_output(self, name: str, output: Array, rows: int | None = None) -> Array:
        """Return logits (rows, K); see :meth:`NonconformityScore.check_output`."""
        check_floating(name, output)
        check_shape(name, output, ("B" if rows is None else rows, "K"))
        return as_rows(name, output)

    def check_labels(self, labels: Array, output: Array, *, check: bool | None = None) -> Array:
        """Return labels (rows,) of logits or probabilities (rows, ..., K) as int64."""
        array_namespace(labels=labels, output=output)
        return check_labels("labels", labels, output.shape[0], output.shape[-1], check=check)

    def activation(self, output: Array) -> Array:
        """Return the softmax of logits (..., K) over the last axis, in single precision or better."""
        logits = at_least_single(output)
        if is_torch(logits):
            return logits.softmax(-1)
        xp = array_namespace(output=output)
        odds = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
        return odds / xp.sum(odds, axis=-1, keepdims=True)

    def decide(self, output: Array) -> Array:
        """Return the most probable label (...) of logits or probabilities (..., K), the first of several."""
        labels = array_namespace(output=output).argmax(output, axis=-1)
        return np.asarray(labels) if isinstance(labels, np.generic) else labels  # numpy makes scalars of 0-d arrays

    def score_and_reliability(
        self,
        probs: Array,
        labels: Array,
        qhat: Array | float,
        /,
        *,
        kind: ReliabilityKind = "normalized",
        check: bool | None = None,
    ) -> tuple[Array, Array]:
        """Return the score of each label, and the rank reliability of the label in its prediction set.

        Kinds as for :func:`conformal_core.rank_reliability`, and ``"probability"``, for comparison: the probability of
        the label, whatever the set. See :meth:`NonconformityScore.score_and_reliability`.

        Examples
        --------
        >>> import numpy as np
        >>> from conformal_core import LAC
        >>> LAC().reliability(np.asarray([[0.5, 0.25, 0.25]] * 2), np.asarray([0, 1]), 0.8).round(3)
        array([1.   , 0.667])
        """
        self.check_kind(kind)
        probs = as_rows("probs", probs)
        scores = self(probs, check=check)
        labels = as_labels(labels, scores, check=check)
        own = take_label(scores, labels)
        if kind == "probability":
            return own, take_label(probs, labels)
        return own, rank_reliability(scores, labels, qhat, kind=kind, check=check)

    def _map(
        self, function: Callable[..., Array], probs: Array, labels: Array | None, u: Array | None, check: bool | None
    ) -> Array:
        """Check rows and apply the function chunk by chunk, while they are in the cache."""
        if self.randomized or u is not None:
            u = self.draw(probs, u, check)
        if not is_checked(probs, check):
            return map_rows(function, probs, labels, u, threads=self.sorts)

        def checked(p: Array, y: Array | None, v: Array | None) -> Array:
            if not is_distribution(p, normalized=self.normalized):
                raise _NotProbabilitiesError
            return function(p, y, v)

        try:
            return map_rows(checked, probs, labels, u, threads=self.sorts)
        except _NotProbabilitiesError:
            raise distribution_error("probs", probs) from None

    def _draw_of_row(self, row: np.ndarray[Any, Any], probs: Array, u: Array | float | None, check: bool | None) -> Any:
        """Return the draw of one row (K,) of ``probs`` as a number in its precision."""
        if u is None:
            return row.dtype.type(_SYSTEM.random())
        return to_host(self.draw(probs, u, check)).reshape(-1)[0]

    def draw(self, probs: Array, u: Array | float | None, check: bool | None) -> Array | None:
        """Uniform draws of shape (...) for a randomized score, None for another."""
        if not self.randomized:
            if u is not None:
                raise ValueError("u must be left out for a score that is not randomized")
            return None
        xp = array_namespace(probs=probs)
        rows = tuple(probs.shape[:-1])
        if u is None:  # seeding a generator takes longer than one draw of the operating system
            draws = _SYSTEM.random() if math.prod(rows) == 1 else np.random.default_rng().random(rows)
            return xp.reshape(xp.asarray(draws, dtype=probs.dtype, device=device(probs)), rows)
        return xp.astype(as_draws(u, rows, probs, check=check), probs.dtype, copy=False)
