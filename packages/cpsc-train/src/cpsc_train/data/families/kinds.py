"""Kinds of modalities, found from columns of a table and from arrays."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Rows
from cpsc_train.data.families.arrays import View
from cpsc_train.data.families.joined import PART_OF, PARTS
from cpsc_train.data.media.tokens import HashedWords
from cpsc_train.data.modality import Modality
from cpsc_train.data.readers import TextReader
from cpsc_train.data.storage.tables import Kind, modality_columns, numbers
from cpsc_train.data.storage.untrusted import CONTAINERS, LONGEST_NAME
from cpsc_train.errors import DataError, UserError

SUFFIXES: Mapping[str, Kind] = MappingProxyType(
    {
        **dict.fromkeys((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"), "image"),
        **dict.fromkeys((".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".w64", ".wav"), "sound"),
        **dict.fromkeys(CONTAINERS, "video"),
        ".m4a": "sound",
    }
)
"""Kind of a file by its suffix, in lower case."""
SAMPLED = 200
"""Cells of a column from which its kind is found."""


def some(count: int, most: int) -> list[int]:
    """Return at most `most` evenly spaced numbers below `count`.

    Examples
    --------
    >>> some(3, 5), some(100, 3)
    ([0, 1, 2], [0, 50, 99])
    """
    return list(range(count)) if count <= most else np.linspace(0, count - 1, most).round().astype(int).tolist()


def kind_of(cells: Sequence[str]) -> Kind:
    """Return the most common kind of some cells that are not empty; text if there are none.

    Examples
    --------
    >>> kind_of(["a.png", "b.JPG"]), kind_of(["0.5 1", "2, 3"]), kind_of(["a cat", "12"]), kind_of(["call.wav"])
    ('image', 'vector', 'text', 'sound')
    """
    kinds = Counter(_kind(cells[place]) for place in some(len(cells), SAMPLED))
    return max(kinds, key=lambda kind: (kinds[kind], kind == "text"), default="text")


def _kind(cell: str) -> Kind:
    if numbers(cell) is not None:
        return "vector"
    if "\n" in cell or len(cell) > LONGEST_NAME * 16:
        return "text"
    return SUFFIXES.get(PurePath(cell).suffix.lower(), "text")


def columns_of(columns: Mapping[str, Sequence[str]], names: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of each modality: one, or several numbered ones of a vector.

    Numbered columns are one modality only if they hold numbers.

    - `columns`: cells by column.
    - `names`: the columns that can be modalities.

    Examples
    --------
    >>> columns_of({"a.0": ["1"], "a.1": ["2"], "page1": ["x.png"], "page2": [""]}, ["a.0", "a.1", "page1", "page2"])
    {'a': ['a.0', 'a.1'], 'page1': ['page1'], 'page2': ['page2']}
    """
    found: dict[str, list[str]] = {}
    for modality, members in modality_columns(names).items():
        cells = [cell for name in members for cell in columns[name] if cell]
        if len(members) == 1 or kind_of(cells) == "vector":
            found[modality] = members
        else:
            found |= {name: [name] for name in members}
    return found


Array = NDArray[Any]
CHANNELS = (1, 3, 4)
"""Sizes of a dimension of an image that can be its channels."""


def usable(array: Array) -> bool:
    """Return whether an array is a modality by default: numbers with two to five dimensions, or texts with spaces."""
    if array.dtype.kind == "U" and array.ndim == 1:
        return bool((np.char.find(np.char.strip(array), " ") > 0).any())
    return array.dtype.kind in "biuf" and 2 <= array.ndim <= 5 and 0 not in array.shape[1:]


def view(array: Array, place: str, *, shape: str | None, vector: bool, tokens: int) -> View:
    """Return an array (N, ...) as a modality.

    Strings are text. Numbers (N, d) are vectors, (N, h, w) images of one channel, (N, c, h, w) and (N, h, w, c) images,
    and (N, t, c, h, w) and (N, t, h, w, c) frames. The channels are the dimension of size 1, 3 or 4, the first of two
    that are; if neither is, the first. The valid range of an image is 0 to 255 for bytes, 0 to 1 for booleans, and else
    from the smallest to the largest value. Raises UserError if the array does not fit these rules.

    - `array` and `place`: the array, and its file and name for error messages.
    - `shape`: shape of an image, such as ``16x15`` or ``3x32x32``. If empty, the rules above, and (N, d) is refused. If
      None, the rules above.
    - `vector`: whether a row is one vector, regardless of its shape.
    - `tokens`: tokens per text.
    """
    if array.dtype.kind == "U":
        modality = Modality(kind="text", shape=(tokens,), vocabulary=HashedWords.vocabulary)
        return View(modality, array, place, {}, TextReader(modality, HashedWords(tokens)).inputs)
    if array.dtype.kind not in "biuf":
        raise UserError(f"{place} must hold numbers or strings, got {array.dtype}")
    row = array.shape[1:]
    if 0 in row:
        raise UserError(f"{place} has rows without values, of shape {row}")
    if vector or (shape is None and len(row) < 2):
        return View(Modality(kind="vector", shape=(int(np.prod(row)),)), array, place)
    size = _image(row, shape, place)
    last = not shape and len(row) > 2 and size != row
    return View(
        Modality(kind="image", shape=size, bounds=_bounds(array)), array, place, {}, _channels_first if last else None
    )


def _image(row: tuple[int, ...], shape: str | None, place: str) -> tuple[int, ...]:
    """Return (channels, height, width), with the frames before it if there are any."""
    if shape:
        given = tuple(map(int, shape.split("x")))
        given = (1, *given) if len(given) == 2 else given
        if np.prod(given) != np.prod(row):
            raise UserError(f"{place} has {int(np.prod(row))} values per row, which do not form an image of {shape}")
        return given
    if len(row) == 2:
        return (1, *row)
    if not 3 <= len(row) <= 4:
        raise UserError(
            f"{place} has rows of shape {row}: give the shape of an image, as in data.images = ['pix:16x15']"
        )
    *frames, first, _, last = row
    return (*frames, last, *row[-3:-1]) if last in CHANNELS and first not in CHANNELS else row


def _channels_first(values: Array) -> Array:
    return np.moveaxis(values, -1, -3)


def _bounds(array: Array) -> tuple[float, float] | None:
    if array.dtype == np.uint8:
        return (0.0, 255.0)
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return (low, high) if low < high else None


def named_shapes(texts: Sequence[str]) -> dict[str, str]:
    """Return the shape of each image, or ``""``, given ``NAME`` or ``NAME:HEIGHTxWIDTH``; UserError for another form.

    Examples
    --------
    >>> named_shapes(["pix:16x15", "photo"])
    {'pix': '16x15', 'photo': ''}
    """
    shapes = {}
    for text in texts:
        name, _, shape = text.partition(":")
        if not name or (":" in text and not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,3}", shape)):
            raise UserError(
                f"data.images must hold NAME, NAME:HEIGHTxWIDTH or NAME:CHANNELSxHEIGHTxWIDTH, got {text!r}"
            )
        shapes[name] = shape
    return shapes


def absent_rows(array: Array, present: Array | None, place: str) -> NDArray[np.bool_]:
    """Return which rows (N,) lack this modality: all values are NaN, the text is empty, or `present` is false.

    Raises DataError if `present` does not hold one boolean per row.
    """
    if array.dtype.kind == "U":
        absent = np.char.strip(array) == ""
    elif array.dtype.kind == "f":
        absent = np.isnan(array).all(axis=tuple(range(1, array.ndim)))
    else:
        absent = np.zeros(len(array), dtype=np.bool_)
    if present is None:
        return np.asarray(absent)
    if present.shape != absent.shape or present.dtype.kind not in "biu":
        raise DataError(
            f"{place} must hold one boolean per row, got {present.dtype} of shape {present.shape}", "bad array"
        )
    return np.asarray(absent | ~present.astype(np.bool_))


def labels_of(values: Array, names: Array | None, place: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return labels (N,) in [0, C) and the C class names.

    Integers are indices into `names` if there are any, else classes named by their number; strings are the names.
    Raises DataError for values that are neither, an index outside `names`, an empty name, or a single class.
    """
    if values.dtype.kind not in "biuU":
        raise DataError(f"{place} must hold integers or strings, got {values.dtype}", "bad labels")
    if values.dtype.kind == "U":
        values = np.char.strip(values)
        if (empty := np.flatnonzero(values == "")).size:
            raise DataError(f"{place} is empty at row {empty[0]}", "bad labels")
    classes, labels = np.unique(values, return_inverse=True)
    if classes.dtype.kind == "U" and all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in classes):  # 10 comes after 9
        order = np.argsort(classes.astype(np.int64), kind="stable")
        classes, labels = classes[order], np.argsort(order)[labels]
    elif classes.dtype.kind in "iu" and names is not None and names.ndim == 1:
        if len(set(names.tolist())) < len(names):
            raise DataError(f"{place}: the names in classes must be different", "bad labels")
        if classes[0] < 0 or classes[-1] >= len(names):
            row = int(np.argmax((values < 0) | (values >= len(names))))
            raise DataError(f"{place} at row {row} must lie in 0…{len(names) - 1}, got {values[row]}", "bad labels")
        return values.astype(np.int64), tuple(map(str, names))
    if len(classes) < 2:
        raise DataError(f"{place} must hold at least two classes, got only {str(classes[0])!r}", "bad labels")
    return labels.astype(np.int64), tuple(map(str, classes))


def parts_of(values: Array, place: str) -> dict[str, Rows]:
    """Return the rows of each part. Raises DataError if a name is none of `PARTS`, in lower case and stripped."""
    named = [PART_OF.get(str(value).strip().lower(), "") for value in values]
    if "" in named:
        row = named.index("")
        raise DataError(
            f"{place} at row {row} must be one of {', '.join(PARTS)}, got {str(values[row])!r}", "bad split"
        )
    parts = np.array(named)
    return {part: np.flatnonzero(parts == part) for part in PARTS if part in named}
