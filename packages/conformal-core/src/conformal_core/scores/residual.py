"""Base of the regression scores: scores, prediction intervals, and reliability of a target."""

import math
from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np

from conformal_core._arrays import array_namespace
from conformal_core._convert import as_floating, as_threshold, filled, single_float
from conformal_core.checks import check_finite, check_floating, check_shape, is_checked
from conformal_core.scores.nonconformity import NonconformityScore, ReliabilityKind, at_least_single

Array = Any
Side = Literal["both", "lower", "upper"]


class RegressionScore(NonconformityScore):
    """Base of the regression scores: a frozen callable on predictions and targets, and its inverse.

    A new score defines ``compute``, ``bounds`` and ``point``.

    Attributes
    ----------
    columns : int
        Numbers that a prediction consists of: 1 for shape (...), otherwise they are a last axis (..., columns).
    takes_floats : bool
        Whether ``compute`` and ``bounds`` also accept floats of Python, which makes single rows fast.
    side : str
        End of the intervals that is finite, ``"lower"`` or ``"upper"``; ``"both"`` by default.
    """

    reliability_kinds: ClassVar[tuple[ReliabilityKind, ...]] = ("normalized",)
    default_loss: ClassVar[str | None] = None
    columns: int = 1
    takes_floats: ClassVar[bool] = False
    side: Side = "both"

    @abstractmethod
    def compute(self, predictions: Array, targets: Array) -> Array:
        """Score rows that were checked."""

    @abstractmethod
    def bounds(self, predictions: Array, qhat: Array) -> tuple[Array, Array]:
        """Return the smallest and the largest target whose score is at most ``qhat``."""

    @abstractmethod
    def point(self, predictions: Array) -> Array:
        """Return the target (...) with the smallest score, the point prediction."""

    def check_values(self, predictions: Array, xp: Any) -> None:  # most scores accept any value
        """Raise ValueError for finite predictions that are invalid."""

    def check_calibration(self, predictions: Array, *, check: bool | None) -> None:  # most scores accept any table
        """Raise ValueError for a table of predictions that is evidently wrong, before calibration."""

    def __call__(self, predictions: Array, targets: Array, /, *, check: bool | None = None) -> Array:
        """Score targets.

        Parameters
        ----------
        predictions : array, shape (...) or (..., columns)
        targets : array, broadcast to shape (...)
        check
            Whether to check that values are finite. If None, only if the host can read them without a sync.

        Returns
        -------
        array, shape (...)

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong kind, library, shape or range.
        """
        score = self.of_row(predictions, targets)
        if score is not None:
            return filled(predictions, score)
        predictions = self._checked(predictions, check)
        targets = as_floating("targets", targets, predictions)
        xp = array_namespace(predictions=predictions, targets=targets)
        check_finite("targets", targets, xp, check=check)
        rows = self._targets(predictions)
        try:
            targets = targets if targets.shape == rows else xp.broadcast_to(targets, rows)
        except (ValueError, RuntimeError):
            same = math.prod(rows) == math.prod(targets.shape)
            cure = ": reshape(-1) drops an axis of length 1" if same else ""
            raise ValueError(f"targets must broadcast to shape {rows}, got {tuple(targets.shape)}{cure}") from None
        scores = self.compute(predictions, targets)
        return np.asarray(scores) if isinstance(scores, np.generic) else scores  # numpy makes scalars of 0-d arrays

    def of_row(self, prediction: Array, target: Array, /, *, check: bool | None = None) -> float | None:
        """Return the score of one row, the fast way; None if a call has to accept or refuse it."""
        first = single_float(prediction) if self.takes_floats else None
        second = None if first is None else single_float(target, prediction)
        if first is None or second is None:
            return None
        score: float = self.compute(first, second)
        return score if math.isfinite(score) else None  # only if both numbers are

    def interval(self, predictions: Array, qhat: Array | float, /, *, check: bool | None = None) -> Array:
        """Return the prediction intervals {y : s(x, y) ≤ q̂}.

        Parameters
        ----------
        predictions : array, shape (...) or (..., columns)
        qhat : array or float, broadcast against shape (...)
            Threshold; +∞ gives (−∞, ∞).
        check
            Whether to check that values are finite. If None, only if the host can read them without a sync.

        Returns
        -------
        array, shape (..., 2)
            Lower and upper ends, both included, in the dtype of ``predictions``, to which a threshold of another one is
            rounded up; an interval is empty where the lower is the larger.

        Raises
        ------
        TypeError, ValueError
            As for a call, and if ``qhat`` is NaN or does not broadcast.
        """
        prediction = single_float(predictions) if self.takes_floats and type(qhat) is float else None
        if prediction is not None and math.isfinite(prediction) and not math.isnan(qhat):
            bounds = self.bounds if self.side == "both" else self._ends
            return filled(predictions, bounds(prediction, qhat))
        predictions = self._checked(predictions, check)
        xp = array_namespace(predictions=predictions)
        qhat = as_threshold(qhat, self._rows(predictions), predictions, check=check)
        return xp.stack(list(self._ends(predictions, qhat)), axis=-1)

    def _ends(self, predictions: Array, qhat: Array | float) -> tuple[Array, Array]:
        low, high = self.bounds(predictions, qhat)
        if self.side == "both":
            return low, high
        endless = math.inf if isinstance(low, float) else array_namespace(low=low).full_like(low, math.inf)
        return (low, endless) if self.side == "lower" else (-endless, high)

    def check_kind(self, kind: str, name: str = "kind") -> None:
        """Raise ValueError for a kind of reliability that this score does not have."""
        if self.side != "both":
            raise ValueError(f"side must be 'both' for reliabilities: intervals must be bounded, got {self.side!r}")
        super().check_kind(kind, name)

    def check_output(self, name: str, output: Array, rows: int | None = None) -> Array:
        """Return predictions (rows,) or (rows, columns); those of one column may have shape (rows, 1)."""
        check_floating(name, output)
        batch = "B" if rows is None else rows
        if self.columns > 1:
            check_shape(name, output, (batch, self.columns))
            return output
        if output.ndim == 0 or tuple(output.shape[1:]) not in {(), (1,)} or rows not in {None, output.shape[0]}:
            raise ValueError(f"{name} must have shape ({batch},) or ({batch}, 1), got {tuple(output.shape)}")
        return output if output.ndim == 1 else output[:, 0]

    def check_labels(self, labels: Array, output: Array, *, check: bool | None = None) -> Array:
        """Return targets (rows,) of predictions (rows, ...)."""
        array_namespace(labels=labels, output=output)
        xp = check_floating("labels", labels)
        check_shape("labels", labels, output.shape[:1])
        check_finite("labels", labels, xp, check=check)
        return labels

    def activation(self, output: Array) -> Array:
        """Return the predictions in single precision or better."""
        return at_least_single(output)

    def decide(self, output: Array) -> Array:
        """Return the ``point`` of each prediction, in single precision or better."""
        return self.point(at_least_single(output))

    def score_and_reliability(
        self,
        predictions: Array,
        targets: Array,
        qhat: Array | float,
        /,
        *,
        kind: ReliabilityKind = "normalized",
        check: bool | None = None,
    ) -> tuple[Array, Array]:
        """Return the score of each target, and the reliability of the target in its prediction interval.

        Reliability is one minus the fraction of the interval that is more plausible than the target, as
        :func:`conformal_core.rank_reliability` is for labels: with C(t) = {y : s(x, y) ≤ t} it is ``1 − |C(s)| /
        |C(q̂)|`` where s ≤ q̂, and 0 outside. See :meth:`NonconformityScore.score_and_reliability`.

        Examples
        --------
        >>> import numpy as np
        >>> from conformal_core import AbsoluteResidual
        >>> AbsoluteResidual().reliability(np.asarray([1.0, 1.0, 1.0]), np.asarray([1.0, 1.25, 2.0]), 0.5)
        array([1. , 0.5, 0. ])
        """
        self.check_kind(kind)
        predictions = as_floating("predictions", predictions)
        xp = array_namespace(predictions=predictions)
        targets = xp.astype(as_floating("targets", targets, predictions), predictions.dtype, copy=False)
        score = self(predictions, targets, check=check)
        qhat = as_threshold(qhat, self._rows(predictions), predictions, check=check)
        narrow, wide = (self.size(predictions, threshold) for threshold in (score, qhat))
        zero = xp.zeros_like(score)
        # An interval of one point contains only that point; the target lies outside an empty one.
        value = 1.0 - xp.where(narrow > 0, narrow, zero) / xp.where(wide > 0, wide, xp.ones_like(wide))
        return score, xp.where((score <= qhat) & (value > 0), value, zero)

    def size(self, predictions: Array, threshold: Array) -> Array:
        """Return the length of the intervals of a threshold, (...)."""
        low, high = self.bounds(predictions, threshold)
        return high - low

    def _targets(self, predictions: Array) -> tuple[int, ...]:
        return self._rows(predictions)

    def _rows(self, predictions: Array) -> tuple[int, ...]:
        return tuple(predictions.shape if self.columns == 1 else predictions.shape[:-1])

    def _checked(self, predictions: Array, check: bool | None) -> Array:
        predictions = as_floating("predictions", predictions)
        xp = array_namespace(predictions=predictions)
        if self.columns > 1 and (predictions.ndim == 0 or predictions.shape[-1] != self.columns):
            raise ValueError(f"predictions must have shape (..., {self.columns}), got {tuple(predictions.shape)}")
        if is_checked(predictions, check):
            check_finite("predictions", predictions, xp)
            self.check_values(predictions, xp)
        return predictions
