"""Base of all scores, for code that handles classes and real targets alike."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from conformal_core._arrays import array_namespace
from conformal_core._settings import Settings

Array = Any
ReliabilityKind = Literal["normalized", "reciprocal", "probability"]


class NonconformityScore(Settings, ABC):
    """Base of :class:`ClassificationScore` and :class:`RegressionScore`, from which scores derive.

    The methods here take the raw *output* of a model, logits or predictions, so code that uses nothing else works with
    both.

    Attributes
    ----------
    reliability_kinds : tuple of str
        Kinds of reliability that the score has.
    default_loss : str or None
        Name of the usual training loss of such outputs. None if there is no single one.
    """

    reliability_kinds: ClassVar[tuple[ReliabilityKind, ...]]
    default_loss: ClassVar[str | None]

    @abstractmethod
    def check_output(self, name: str, output: Array, rows: int | None = None) -> Array:
        """Return the output of a model for ``rows`` rows; ``name`` is what errors call it.

        Raises
        ------
        TypeError, ValueError
            If it is not an array of floating-point numbers, or has another shape or number of rows.
        """

    @abstractmethod
    def check_labels(self, labels: Array, output: Array, *, check: bool | None = None) -> Array:
        """Return one label or target for each row of an output (rows, ...).

        Raises
        ------
        TypeError, ValueError
            If labels are of another kind, library or shape, or, where values are checked, out of range or not finite.
        """

    @abstractmethod
    def activation(self, output: Array) -> Array:
        """Return the input of the score for a checked output, in single precision or better."""

    @abstractmethod
    def decide(self, output: Array) -> Array:
        """Return the predicted label or target (rows,) of a checked output."""

    @abstractmethod
    def score_and_reliability(
        self,
        predictions: Array,
        labels: Array,
        qhat: Array | float,
        /,
        *,
        kind: ReliabilityKind = "normalized",
        check: bool | None = None,
    ) -> tuple[Array, Array]:
        """Return the score of each label or target, and its reliability in the prediction set or interval.

        Parameters
        ----------
        predictions : array, shape (..., K), (...) or (..., columns)
            Probabilities, or predictions of real targets.
        labels : array, broadcast to shape (...)
            Labels, or targets, which are converted to the dtype of ``predictions``.
        qhat : array or float, broadcast against shape (...)
            Threshold of the set; the interval of +∞ gives every target the reliability 1.
        kind
            One of ``reliability_kinds``.
        check
            Whether to check values. If None, only if the host can read them without a sync.

        Returns
        -------
        tuple of arrays, each of shape (...)
            Scores, and reliabilities in [0, 1], which are 0 outside.

        Raises
        ------
        TypeError, ValueError
            As for a call of the score, and if ``kind`` or ``qhat`` is invalid.
        """

    def reliability(
        self,
        predictions: Array,
        labels: Array,
        qhat: Array | float,
        /,
        *,
        kind: ReliabilityKind = "normalized",
        check: bool | None = None,
    ) -> Array:
        """Return the second result of ``score_and_reliability`` alone."""
        return self.score_and_reliability(predictions, labels, qhat, kind=kind, check=check)[1]

    def check_kind(self, kind: str, name: str = "kind") -> None:
        """Raise ValueError for a kind of reliability that this score does not have."""
        if kind not in self.reliability_kinds:
            kinds = ", ".join(map(repr, self.reliability_kinds))
            raise ValueError(f"{name} must be one of {kinds} with {type(self).__name__}, got {kind!r}")


def at_least_single(array: Array) -> Array:
    """Convert half precision to single precision, because rounding moves the decision boundary."""
    xp = array_namespace(array=array)
    return xp.astype(array, xp.float32) if xp.finfo(array.dtype).bits < 32 else array
