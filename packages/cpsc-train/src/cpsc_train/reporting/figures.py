"""Formats of figures, shared by the console and the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ABSENT = "–"


def percent(fraction: float | None) -> str:
    """Return a fraction in %, with one decimal.

    Examples
    --------
    >>> percent(0.1234), percent(None)
    ('12.3', '–')
    """
    return ABSENT if fraction is None else f"{100 * fraction:.1f}"


def coverage_and_size(sets: Mapping[str, float] | None) -> str:
    """Return the coverage of prediction sets, with their mean size in brackets.

    Examples
    --------
    >>> coverage_and_size({"coverage": 0.9, "mean_size": 1.5})
    '0.900 (1.50)'
    """
    return ABSENT if sets is None else f"{sets['coverage']:.3f} ({sets['mean_size']:.2f})"


def down_weighted(trust: Mapping[str, float] | None) -> str:
    """Return the fraction of rows in which a modality is down-weighted in %, with the mean weight in brackets.

    Examples
    --------
    >>> down_weighted({"down_weighted": 0.25, "mean": 0.8})
    '25.0 (0.80)'
    """
    return ABSENT if trust is None else f"{100 * trust['down_weighted']:.1f} ({trust['mean']:.2f})"


def lacking(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each modality that some rows lack, from ``data`` of ``results.json``.

    Examples
    --------
    >>> present = {"train": {"text": 45}, "test": {"text": 20}}
    >>> list(lacking({"train": 60, "test": 20, "present": present}))
    ['text missing in train 15 of 60, test 0 of 20']
    """
    present = data.get("present", {})
    for modality in next(iter(present.values()), {}):
        parts = (f"{part} {data[part] - of[modality]:,} of {data[part]:,}" for part, of in present.items())
        yield f"{modality} missing in {', '.join(parts)}"
