"""Noise on values, on series of sensors, and on the words of texts."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.modality import Modality
from cpsc_train.data.noise.base import Corruption
from cpsc_train.data.preprocessing import Scale

Values = NDArray[np.float32]


def set_to_ends(x: Values, fraction: float, ends: tuple[float, float], generator: np.random.Generator) -> Values:
    """Set a fraction of the values to one of two ends, each with the same probability."""
    draw = generator.random(x.shape, dtype=np.float32)
    return np.where(draw < fraction / 2, ends[0], np.where(draw < fraction, ends[1], x)).astype(np.float32)


def _gaussian(x: Values, severity: float, generator: np.random.Generator, modality: Modality, scale: Scale) -> Values:
    bounds = modality.bounds
    unit = scale.std if bounds is None else np.float32(bounds[1] - bounds[0])
    return x + np.float32(severity) * unit * generator.standard_normal(x.shape, dtype=np.float32)


def _salt_and_pepper(
    x: Values, severity: float, generator: np.random.Generator, modality: Modality, _scale: Scale
) -> Values:
    return set_to_ends(x, severity, modality.bounds or (0.0, 0.0), generator)


def _dropout(x: Values, severity: float, generator: np.random.Generator, modality: Modality, scale: Scale) -> Values:
    lost = generator.random(x.shape, dtype=np.float32) < severity
    blank = scale.mean if modality.bounds is None else np.float32(modality.bounds[0])
    return np.where(lost, blank, x).astype(np.float32)


GAUSSIAN = Corruption(
    name="gaussian",
    target="values",
    corrupt=_gaussian,
    summary="normal noise is added",
    severity="σ, as a multiple of the valid range or, without one, of each feature's standard deviation",
    levels=(0.08, 0.12, 0.18, 0.26, 0.38),
    unbounded=(0.5, 1.0, 1.5, 2.0, 3.0),
    within=(0.0, np.inf),
)
SALT_AND_PEPPER = Corruption(
    name="salt-and-pepper",
    target="values",
    corrupt=_salt_and_pepper,
    summary="values are set to the smallest or largest valid one",
    severity="fraction of the values",
    levels=(0.03, 0.06, 0.09, 0.17, 0.27),
    needs_bounds=True,
)
DROPOUT = Corruption(
    name="dropout",
    target="values",
    corrupt=_dropout,
    summary="values become black or, without a valid range, each feature's training mean; 1 is a dead sensor",
    severity="fraction of the values",
    levels=(0.1, 0.3, 0.5, 0.7, 0.9),
)


def _dead_axis(x: Values, severity: float, generator: np.random.Generator, modality: Modality, _scale: Scale) -> Values:
    axes = _axes_first(x, modality)
    dead = generator.permutation(len(axes))[: max(1, round(severity * len(axes)))]
    broken = axes.copy()
    broken[dead] = 0
    return np.moveaxis(broken, 0, modality.axis or 0)


def _drift(x: Values, severity: float, generator: np.random.Generator, modality: Modality, scale: Scale) -> Values:
    """Add a random walk to each axis, whose standard deviation at the end is `severity` times that of the axis."""
    axes = _axes_first(x, modality)
    steps = generator.standard_normal(axes.shape[:2], dtype=np.float32)
    walk = np.cumsum(steps, 1) / np.float32(np.sqrt(axes.shape[1]))
    drift = np.float32(severity) * _deviations(x, modality, scale)[:, None] * walk
    moved = axes + drift.reshape(*drift.shape, *(1,) * (axes.ndim - 2))
    return np.moveaxis(moved, 0, modality.axis or 0).astype(np.float32)


def _axes_first(x: Values, modality: Modality) -> Values:
    """Return a recording as (axes, time, …)."""
    return np.moveaxis(x, modality.axis or 0, 0)


def _deviations(x: Values, modality: Modality, scale: Scale) -> Values:
    """Return the standard deviation of each axis over training rows and time, (axes,)."""
    mean, std = (
        _axes_first(np.broadcast_to(values, x.shape), modality).reshape(x.shape[modality.axis or 0], -1)
        for values in (scale.mean, scale.std)
    )
    return np.asarray(np.sqrt(np.square(std).mean(1) + mean.var(1)), dtype=np.float32)


DEAD_AXIS = Corruption(
    name="dead-axis",
    target="sensor",
    corrupt=_dead_axis,
    summary="random axes are set to zero",
    severity="fraction of the axes, at least one",
    levels=(0.15, 0.3, 0.5, 0.7, 0.85),
)
DRIFT = Corruption(
    name="drift",
    target="sensor",
    corrupt=_drift,
    summary="a random walk is added to each axis",
    severity="standard deviation of the walk at the end, as a multiple of that of the axis",
    levels=(0.5, 1.0, 2.0, 3.0, 5.0),
    within=(0.0, np.inf),
)


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
