"""Scores of several outputs together: boxes and ellipsoids that contain all targets of a row."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import array_namespace, device, to_host
from conformal_core._convert import as_floating
from conformal_core.checks import check_finite, check_shape
from conformal_core.novelty import covariance, moments
from conformal_core.scores.residual import RegressionScore

Array = Any


class JointScore(RegressionScore):
    """Base of the scores of d outputs: predictions (..., d) and targets (..., d) have one score (...).

    ``bounds`` returns the ends (..., d) of the box around the region of a threshold.
    """

    @classmethod
    @abstractmethod
    def fit(cls, predictions: Array, targets: Array, /) -> Self:
        """Return the score for the errors of rows (N, d), which must not be calibration rows."""

    @property
    @abstractmethod
    def half_widths(self) -> NDArray[np.float64]:
        """Half of the sides of the box at the threshold 1, (d,)."""

    def bounds(self, predictions: Array, qhat: Array) -> tuple[Array, Array]:
        """Prediction ± q̂ times the half-widths."""
        apart = qhat[..., None] * _like(self.half_widths, predictions)
        return predictions - apart, predictions + apart

    def point(self, predictions: Array) -> Array:
        """Return the prediction itself, (..., d)."""
        return predictions

    def size(self, predictions: Array, threshold: Array) -> Array:
        """Return the volume of the region, relative to that of the threshold 1."""
        return threshold**self.columns

    def check_labels(self, labels: Array, output: Array, *, check: bool | None = None) -> Array:
        """Return targets (rows, d) of predictions (rows, d)."""
        labels = as_floating("labels", labels, output)
        xp = array_namespace(labels=labels, output=output)
        check_shape("labels", labels, output.shape)
        check_finite("labels", labels, xp, check=check)
        return labels

    def _targets(self, predictions: Array) -> tuple[int, ...]:
        return tuple(predictions.shape)


@dataclass(frozen=True)
class MaxResidual(JointScore):
    """``maxⱼ |yⱼ − ŷⱼ| / σⱼ``: a box around each prediction that contains all d targets together.

    ``predict`` of a regressor returns the sides of the box, (..., d, 2).

    Parameters
    ----------
    scale
        Size σⱼ of the error of each output, positive, (d,) with d ≥ 2. :meth:`fit` estimates it.

    Raises
    ------
    ValueError
        If there are fewer than two numbers, or one is not positive and finite.

    Notes
    -----
    P(all yⱼ in their intervals) ≥ 1 − α, for any positive ``scale``; a good one gives intervals of similar coverage.

    Examples
    --------
    >>> import numpy as np
    >>> score = MaxResidual((1.0, 10.0))
    >>> score(np.asarray([0.0, 0.0]), np.asarray([1.0, 20.0]))
    array(2.)
    >>> score.interval(np.asarray([0.0, 5.0]), 2.0)
    array([[ -2.,   2.],
           [-15.,  25.]])
    """

    scale: Sequence[float]

    def __post_init__(self) -> None:
        scale = np.asarray(self.scale, dtype=np.float64)
        if scale.ndim != 1 or len(scale) < 2 or not (np.isfinite(scale) & (scale > 0)).all():
            raise ValueError(f"scale must hold at least 2 positive finite numbers, got {self.scale}")
        object.__setattr__(self, "scale", tuple(scale.tolist()))
        object.__setattr__(self, "columns", len(scale))

    @classmethod
    def fit(cls, predictions: Array, targets: Array, /) -> Self:
        """Return the score with the root mean square error of each output in rows (N, d), not calibration rows."""
        return cls(np.sqrt((_errors(predictions, targets) ** 2).mean(0)).tolist())

    @property
    def half_widths(self) -> NDArray[np.float64]:
        """The scale."""
        return np.asarray(self.scale)

    def compute(self, predictions: Array, targets: Array) -> Array:
        """Largest of the scaled differences."""
        xp = array_namespace(predictions=predictions)
        return xp.max(abs(targets - predictions) / _like(self.half_widths, predictions), axis=-1)


@dataclass(frozen=True)
class EllipsoidResidual(JointScore):
    """√((y − ŷ)ᵀ Σ⁻¹ (y − ŷ)): an ellipsoid around each prediction, smaller than a box if errors are correlated.

    The region is {y : score ≤ q̂}, with centre ŷ and the axes of Σ times q̂. ``predict`` returns the box around it,
    (..., d, 2); a target is in the ellipsoid exactly when its ``p_values`` of the regressor exceed α.

    Parameters
    ----------
    covariance
        Covariance Σ of the errors, (d, d) with d ≥ 2, symmetric and positive definite. :meth:`fit` estimates it.

    Raises
    ------
    ValueError
        If it is not such a matrix.

    Notes
    -----
    Any such matrix is valid. Johnstone and Cox, *Conformal uncertainty sets for robust optimization* (2021).

    Examples
    --------
    >>> import numpy as np
    >>> score = EllipsoidResidual([[4.0, 0.0], [0.0, 1.0]])
    >>> score(np.zeros((2, 2)), np.asarray([[2.0, 0.0], [0.0, 3.0]]))
    array([1., 3.])
    """

    covariance: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        matrix = np.asarray(self.covariance, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
            raise ValueError(f"covariance must have shape (d, d) with d >= 2, got {matrix.shape}")
        object.__setattr__(self, "covariance", tuple(map(tuple, matrix.tolist())))
        object.__setattr__(self, "columns", len(matrix))
        if not np.allclose(matrix, matrix.T) or not np.isfinite(matrix).all() or not _is_positive(matrix):
            raise ValueError("covariance must be symmetric and positive definite, got another matrix")

    @classmethod
    def fit(cls, predictions: Array, targets: Array, /) -> Self:
        """Return the score with the covariance of the errors of rows (N, d), shrunk as in :class:`Mahalanobis`."""
        errors = _errors(predictions, targets)
        sums = moments(errors, np.zeros(len(errors), dtype=np.int64), 1, fourth=True)
        return cls(covariance(sums, None).tolist())

    @property
    def half_widths(self) -> NDArray[np.float64]:
        """Standard deviations of the errors."""
        return np.asarray(np.sqrt(np.diag(np.asarray(self.covariance))), dtype=np.float64)

    def compute(self, predictions: Array, targets: Array) -> Array:
        """Mahalanobis distance of target and prediction."""
        xp = array_namespace(predictions=predictions)
        errors = (targets - predictions)[..., None, :]
        white = xp.sum(
            errors * _like(_whitening(self.covariance), predictions), axis=-1
        )  # alike for any number of rows
        return xp.sqrt(xp.sum(white * white, axis=-1))


def _is_positive(matrix: NDArray[np.float64]) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


@lru_cache(maxsize=8)
def _whitening(covariance: Any) -> NDArray[np.float64]:
    return np.asarray(np.linalg.inv(np.linalg.cholesky(np.asarray(covariance))), dtype=np.float64)


def _like(values: NDArray[np.float64], array: Array) -> Array:
    return array_namespace(array=array).asarray(values, dtype=array.dtype, device=device(array))


def _errors(predictions: Array, targets: Array) -> NDArray[np.float64]:
    predictions = as_floating("predictions", predictions)
    targets = as_floating("targets", targets, predictions)
    check_shape("predictions", predictions, ("N", "d"))
    check_shape("targets", targets, predictions.shape)
    errors = np.asarray(to_host(targets), np.float64) - np.asarray(to_host(predictions), np.float64)
    if not math.prod(errors.shape) or not np.isfinite(errors).all():
        raise ValueError("predictions and targets must be finite, of at least one row")
    return errors
