"""Recordings of different lengths, stored one after the other, and their resampling to one length."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.readers.base import interpolated
from cpsc_train.errors import DataError

Array = NDArray[Any]


def column(arrays: Mapping[str, Array], name: str, file: Path, *, low: int, high: int) -> NDArray[np.int64]:
    """Return an array (N,) of integers in [low, high].

    Raises DataError if it is missing, has a wrong type or shape, or holds a value out of range; names the row.
    """
    values = _array(arrays, name, file)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(f"{file}: {name} must hold one integer per row, got {values.dtype} of shape {values.shape}")
    bad = np.flatnonzero((values < low) | (values > high))
    if len(bad):
        raise DataError(f"{file}: {name} at row {bad[0]} must lie in {low}…{high}, got {values[bad[0]]}")
    return values.astype(np.int64)


def resampled(
    arrays: Mapping[str, Array], name: str, file: Path, *, rows: int, shape: tuple[int, ...], length: int
) -> NDArray[np.float32]:
    """Return the recordings called `name`, resampled to `length` steps, (rows, length, *shape).

    They lie one after the other in ``name``, (steps, *shape); ``name_offset``, (rows + 1,), counts the steps before
    each. Values are interpolated linearly at evenly spaced times from the first step to the last. Raises DataError if
    an array is missing or has another shape, a recording is empty, or a value is not finite; names the row.
    """
    values, offset = _array(arrays, name, file), _array(arrays, f"{name}_offset", file)
    if values.shape[1:] != shape or values.dtype.kind not in "iuf":
        expected = ", ".join(map(str, ("steps", *shape)))
        raise DataError(f"{file}: {name} must have shape ({expected}), got {values.dtype} of shape {values.shape}")
    if offset.shape != (rows + 1,) or offset.dtype.kind not in "iu" or (offset[0], offset[-1]) != (0, len(values)):
        raise DataError(
            f"{file}: {name}_offset must hold {rows + 1} integers from 0 to {len(values)}, got {offset.dtype} of shape "
            f"{offset.shape}"
        )
    edges = offset.astype(np.int64)
    if (empty := np.flatnonzero(np.diff(edges) < 1)).size:
        raise DataError(f"{file}: {name} of row {empty[0]} is empty", "empty")
    made = np.empty((rows, length, *shape), np.float32)
    for row in range(rows):
        recording = values[edges[row] : edges[row + 1]].astype(np.float32)
        if not np.isfinite(recording).all():
            raise DataError(f"{file}: {name} of row {row} holds values that are not finite", "not finite")
        made[row] = interpolated(recording, length)
    return made


def _array(arrays: Mapping[str, Array], name: str, file: Path) -> Array:
    if name not in arrays:
        raise DataError(f"{file}: has no array {name!r} (it holds: {', '.join(arrays)})", "missing")
    return arrays[name]
