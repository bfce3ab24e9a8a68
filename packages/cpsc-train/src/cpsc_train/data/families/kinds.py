"""Kinds of the columns of a table of samples, found from some of their cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import MappingProxyType

import numpy as np

from cpsc_train.data.storage.tables import Kind, modality_columns, numbers
from cpsc_train.data.storage.untrusted import CONTAINERS, LONGEST_NAME

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
