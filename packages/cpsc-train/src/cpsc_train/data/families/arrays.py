"""Data sets whose samples are rows of arrays in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset, Rows
from cpsc_train.data.modality import Modality
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import DataError, UserError

if TYPE_CHECKING:
    from cpsc_train.data.noise import Noise

Array = NDArray[Any]
STORED = re.compile(r"([a-z][a-z-]*)-([0-9.]+(?:e[+-]?[0-9]+)?)")
"""Kind and severity of a stored corruption."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class View:
    """One modality of an array data set, and its stored corruptions."""

    modality: Modality
    """Its properties."""
    values: Array
    """(N, ...) of any numeric type, with as many values per row as ``modality.shape``; or N texts."""
    place: str
    """File and array, for error messages."""
    stored: Mapping[str, Array] = field(default_factory=dict)
    """By kind and severity, such as ``gaussian-0.1``: the same rows after that corruption. NaN: not extracted."""
    prepare: Callable[[Array], Array] | None = None
    """Maps values of some rows to (n, *shape). If None, they are reshaped."""
    present: Mask | None = None
    """Which rows have the modality, (N,). If None, all. The values of the others are never read."""

    def rows(self, values: Array) -> NDArray[np.float32]:
        """Return some rows of `values` in the shape of the modality."""
        if self.prepare is not None:
            values = self.prepare(values)
        return values.reshape(len(values), *self.modality.shape).astype(np.float32)


class Arrays(Dataset):
    """Rows of arrays in memory.

    Raises DataError if a view has a different number of rows, or holds values that are not finite.

    - `ids`, `labels`, `classes`: as in `Dataset`.
    - `views`: the modalities in use, in order.
    - `parts` and `groups`: the official division, and the group of each row; ``""`` in `parts` means no part.
    """

    def __init__(
        self,
        ids: Sequence[str],
        labels: NDArray[np.int64],
        classes: Sequence[str],
        views: Mapping[str, View],
        *,
        parts: Mapping[str, Rows] | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        self.ids, self.labels, self.classes = StringArray.of(ids), labels, tuple(classes)
        self.modalities = {name: view.modality for name, view in views.items()}
        self.parts, self.groups = parts, groups
        incomplete = {name: view.present for name, view in views.items() if view.present is not None}
        self.presence = {name: mask for name, mask in incomplete.items() if not mask.all()}
        self._views = dict(views)
        for view in views.values():
            _check(view, len(self.ids))

    def read(self, modality: str, rows: Rows, /) -> Array:
        view = self._views[modality]
        values = view.values[rows]
        return values.astype(object) if view.modality.kind == "text" else view.rows(values)

    def inputs(self, modality: str, values: Array, /) -> Array:
        view = self._views[modality]
        if view.modality.kind == "text" and view.prepare is not None:
            return view.prepare(values)
        return values

    def corrupted(self, modality: str, noise: Noise, rows: Rows, /) -> Array | None:
        """Return the stored rows after `noise`, or None if no array holds them; UserError if a row is missing."""
        view = self._views[modality]
        name = f"{noise.kind}-{noise.severity:g}"
        if name not in view.stored:
            return None
        if view.modality.kind == "text":
            return self.inputs(modality, view.stored[name][rows])
        values = view.rows(view.stored[name][rows])
        bad = np.flatnonzero(~np.isfinite(values).all(tuple(range(1, values.ndim))))
        if len(bad):
            raise UserError(
                f"{view.place}@{name}: row {rows[bad[0]]} was not extracted ({len(bad)} of the {len(rows)} rows asked "
                "for): extract these rows, or leave out this noise"
            )
        return values

    def stored(self, modality: str, /) -> tuple[str, ...]:
        """Return the stored corruptions of a modality, such as ``gaussian-0.1``."""
        return tuple(self._views[modality].stored)


def _check(view: View, rows: int) -> None:
    shape = view.modality.shape
    if view.modality.kind == "text":
        return
    for name, values in {"": view.values, **{f"@{name}": values for name, values in view.stored.items()}}.items():
        width = int(np.prod(shape))
        if values.dtype.kind not in "biuf":
            raise DataError(f"{view.place}{name} must hold numbers, got {values.dtype}", "bad array")
        if values.shape[0] != rows or (view.prepare is None and values.size != rows * width):
            expected = " or ".join(dict.fromkeys([str((rows, *shape)), str((rows, width))]))
            raise DataError(f"{view.place}{name} must have shape {expected}, got {values.shape}", "wrong size")
    check_finite(view.values, view.place, present=view.present)


def stored_noise(text: str) -> tuple[str, float] | None:
    """Return kind and severity of a stored corruption; None for any other text.

    Examples
    --------
    >>> stored_noise("dead-axis-0.50"), stored_noise("gaussian-1e-05"), stored_noise("gaussian")
    (('dead-axis', 0.5), ('gaussian', 1e-05), None)
    """
    match = STORED.fullmatch(text)
    try:
        return None if match is None else (match[1], float(match[2]))
    except ValueError:  # two points
        return None


def check_finite(
    values: Array, place: str, *, present: Mask | None = None, numbers: NDArray[np.int64] | None = None
) -> None:
    """Check that all values of an array are finite, except in rows that are not `present`.

    `numbers` are the numbers of the rows in the file, for the error message; by default, they start at 0. Raises
    DataError if one is not finite; names the row and column.
    """
    if values.dtype.kind != "f":
        return
    finite = np.isfinite(values)
    if values.dtype.itemsize > np.dtype(np.float32).itemsize:  # they are read as 32-bit numbers
        finite &= ~(np.abs(values) > np.finfo(np.float32).max)
    if present is not None:
        finite[~present] = True
    bad = np.argwhere(~finite)
    if len(bad):
        row, *columns = bad[0]
        row = row if numbers is None else numbers[row]
        where = f"row {row}, column {', '.join(map(str, columns))}" if columns else f"row {row}"
        raise DataError(
            f"{place} holds {values[tuple(bad[0])]} at {where} ({len(bad)} bad values in all): remove or impute them",
            "not finite",
        )
