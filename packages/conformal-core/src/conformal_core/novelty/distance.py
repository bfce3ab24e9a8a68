"""Pairwise distances, and the weights they give."""

from typing import Any

from conformal_core._arrays import array_namespace
from conformal_core._convert import as_floating, as_threshold

Array = Any


def squared_distances(rows: Array, points: Array) -> Array:
    """Return squared Euclidean distances (..., K) of rows (..., d) to points (K, d), by one product of matrices.

    Rows that are not finite, or too far away for their dtype, have infinite distances.

    Examples
    --------
    >>> import numpy as np
    >>> squared_distances(np.asarray([[0.0, 0.0], [3.0, 4.0]]), np.asarray([[0.0, 0.0]]))
    array([[ 0.],
           [25.]])
    """
    xp = array_namespace(rows=rows, points=points)
    both = rows @ xp.matrix_transpose(points)
    distances = xp.sum(rows * rows, axis=-1)[..., None] - 2.0 * both + xp.sum(points * points, axis=-1)
    distances = xp.where(distances < 0, xp.zeros_like(distances), distances)  # rounding
    return xp.where(xp.isnan(distances), xp.full_like(distances, xp.inf), distances)


def trust(distances: Array, qhat: Array | float) -> Array:
    """Return min(1, q̂ / s) of squared distances s of any shape: the precision of an input relative to a typical one.

    Examples
    --------
    >>> import numpy as np
    >>> trust(np.asarray([0.0, 5.0, 20.0]), 10.0)
    array([1. , 1. , 0.5])
    """
    distances = as_floating("distances", distances)
    xp = array_namespace(distances=distances)
    qhat = as_threshold(qhat, tuple(distances.shape), distances, check=False)
    one = xp.ones_like(distances)
    inside = distances <= qhat
    return xp.where(inside, one, xp.where(inside, one, qhat) / xp.where(inside, one, distances))
