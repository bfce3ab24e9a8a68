"""Interface and base of the novelty scores; checks, precision and distances of features."""

import math
from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

from conformal_core._arrays import array_namespace
from conformal_core._convert import as_floating
from conformal_core._settings import Saved
from conformal_core._state import State
from conformal_core.checks import check_finite

Array = Any


@runtime_checkable
class NoveltyScore(Protocol):
    """Squared distance of features from those of training, at least 0.

    Any object with these methods is a novelty score; it need not subclass this protocol. ``FeatureScore`` in this
    module is a base of such scores, and ``FeatureNorm`` the shortest of them.
    """

    def update(self, features: Array, labels: Array | None = None, *, check: bool | None = None) -> None:
        """Add training features (..., d), and their labels (...) if the score uses classes.

        Raises
        ------
        TypeError
            If labels are missing, or an array has another kind or library.
        ValueError
            If shapes do not fit, a value is not finite, or a label is out of range.
        """

    def __call__(self, features: Array, *, check: bool | None = None) -> Array:
        """Return the scores (...) of features (..., d)."""

    def state_dict(self) -> State:
        """Return the state as arrays and numbers."""

    def load_state_dict(self, state: State) -> None:
        """Restore a saved state."""


class FeatureScore(Saved, ABC):
    """A novelty score that learns sums or rows in the library and on the device of its training features.

    A subclass defines ``_sample``, one of the arrays that it learned, and ``_learn`` and ``_score``.
    """

    def update(self, features: Array, labels: Array | None = None, *, check: bool | None = None) -> None:
        """See :meth:`NoveltyScore.update`."""
        features, xp = self._checked(features, check)
        groups = self._groups(features, labels, xp, check)
        rows = xp.reshape(features, (math.prod(features.shape[:-1]), features.shape[-1]))
        if rows.shape[0]:
            if self._sample is not None:
                array_namespace(learned=self._sample, features=features)
            self._learn(xp.astype(rows, xp.float64, copy=False), groups, xp)  # as sums over many rows need

    def __call__(self, features: Array, *, check: bool | None = None) -> Array:
        """Return the scores (...) of features (..., d), in single precision or better; ValueError before any update."""
        features, xp = self._checked(features, check)
        if self._sample is None:
            raise ValueError(f"{self._kind} must learn from training features before it is asked")
        wide = xp.isdtype(features.dtype, (xp.float32, xp.float64))
        return self._score(features if wide else xp.astype(features, xp.float32), xp)

    @property
    @abstractmethod
    def _sample(self) -> Array | None: ...

    @property
    def _width(self) -> int | None:
        return None if self._sample is None else int(self._sample.shape[1])

    @abstractmethod
    def _learn(self, rows: Array, groups: Array, xp: Any) -> None: ...

    @abstractmethod
    def _score(self, features: Array, xp: Any) -> Array: ...

    def _groups(self, features: Array, labels: Array | None, xp: Any, check: bool | None) -> Array | None:
        return None

    def _checked(self, features: Array, check: bool | None) -> tuple[Array, Any]:
        """Return features (..., d) of the training width, and their namespace."""
        features, width = as_floating("features", features, self._sample), self._width
        xp = array_namespace(features=features)
        if features.ndim == 0 or features.shape[-1] == 0 or width not in {None, features.shape[-1]}:
            wanted = "d" if width is None else width
            raise ValueError(f"features must have shape (..., {wanted}), got {tuple(features.shape)}")
        check_finite("features", features, xp, check=check)
        return features, xp


def slices(count: int, step: int) -> list[slice]:
    """Cut 0..count into slices of `step` and a rest; at least one, which may be empty."""
    return [slice(start, min(start + step, count)) for start in range(0, max(1, count), step)]


def squared_distances(rows: Array, points: Array) -> Array:
    """Return squared Euclidean distances (..., K) of rows (..., d) to points (K, d), by one product of matrices.

    Rows that are not finite, or too far away for their dtype, have infinite distances.
    """
    xp = array_namespace(rows=rows, points=points)
    both = rows @ xp.matrix_transpose(points)
    distances = xp.sum(rows * rows, axis=-1)[..., None] - 2.0 * both + xp.sum(points * points, axis=-1)
    distances = xp.where(distances < 0, xp.zeros_like(distances), distances)  # rounding
    return xp.where(xp.isnan(distances), xp.full_like(distances, xp.inf), distances)
