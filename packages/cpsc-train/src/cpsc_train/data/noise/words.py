"""Corruption of texts, word by word; whitespace, which separates words, is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from cpsc_train.data.modality import Modality
from cpsc_train.data.noise.base import Corruption
from cpsc_train.data.preprocessing import Scale

BLANK = "_"
"""Replacement of a masked word."""
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Rows of letters of a keyboard; a mistyped letter is a neighbour in its row."""
BESIDE: dict[str, str] = {}
for _row in KEYS:
    for _left, _right in pairwise(_row):
        BESIDE[_left] = BESIDE.get(_left, "") + _right
        BESIDE[_right] = BESIDE.get(_right, "") + _left


def _masked(text: str, severity: float, generator: np.random.Generator, _modality: Modality, _scale: Scale) -> str:
    return re.sub(r"\S+", lambda word: BLANK if generator.random() < severity else word[0], text)


def _dropped(text: str, severity: float, generator: np.random.Generator, _modality: Modality, _scale: Scale) -> str:
    kept = re.sub(r"\S+\s*", lambda word: "" if generator.random() < severity else word[0], text)
    return kept.rstrip() if not text[-1:].isspace() else kept


def _mistyped(text: str, severity: float, generator: np.random.Generator, _modality: Modality, _scale: Scale) -> str:
    def mistype(word: re.Match[str]) -> str:
        hit, error, place, key = generator.random(4)
        return _mistake(word[0], error, place, key) if hit < severity else word[0]

    return re.sub(r"\S+", mistype, text)


def _mistake(word: str, error: float, place: float, key: float) -> str:
    """Return a word with one error, chosen by three numbers in [0, 1); it differs from the word."""
    errors: list[Callable[[], str]] = [
        lambda: _swapped(word, place),
        lambda: _without(word, place),
        lambda: _replaced(word, place, key),
    ]
    first = int(error * len(errors))
    attempts = (errors[(first + step) % len(errors)]() for step in range(len(errors)))
    return next((attempt for attempt in attempts if attempt not in {word, ""}), word * 2)


def _swapped(word: str, place: float) -> str:
    at = int(place * (len(word) - 1))
    return word[:at] + word[at : at + 2][::-1] + word[at + 2 :]


def _without(word: str, place: float) -> str:
    at = int(place * len(word))
    return word[:at] + word[at + 1 :]


def _replaced(word: str, place: float, key: float) -> str:
    at = int(place * len(word))
    beside = BESIDE.get(word[at].lower(), word[at])
    other = beside[int(key * len(beside))]
    return word[:at] + (other.upper() if word[at].isupper() else other) + word[at + 1 :]


MASKED = Corruption(
    name="words",
    target="text",
    corrupt=_masked,
    summary="words are masked: replaced by _",
    severity="fraction of the words",
    levels=(0.1, 0.25, 0.5, 0.75, 0.9),
)
DROPPED = Corruption(
    name="words-dropped",
    target="text",
    corrupt=_dropped,
    summary="words are removed",
    severity="fraction of the words",
    levels=(0.1, 0.25, 0.5, 0.75, 0.9),
)
MISTYPED = Corruption(
    name="words-mistyped",
    target="text",
    corrupt=_mistyped,
    summary="words get one typing error each: two letters swapped, one omitted, or one replaced by a neighbouring key",
    severity="fraction of the words",
    levels=(0.1, 0.25, 0.5, 0.75, 1.0),
)
