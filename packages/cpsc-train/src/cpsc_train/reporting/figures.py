"""Figures as text, and warnings of reliabilities that are constant."""

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


def redistributed_text(before: int, now: int) -> str:
    """Return a line about a run that is resumed by another number of processes.

    Examples
    --------
    >>> redistributed_text(1, 4)
    'resuming with another number of processes, 4 instead of 1: random generators are seeded anew'
    """
    return f"resuming with another number of processes, {now} instead of {before}: random generators are seeded anew"


CONSTANT = 0.98
"""Fraction of training rows with the same reliability, 0 or 1, above which gradient weights are called a constant."""


def spread_of(record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return ``mean``, ``sd``, ``at_one`` and ``at_zero`` of reliability by modality; empty if a method has none."""
    return dict(record.get("spread", {}).get("reliability", {}))


def spread_text(record: dict[str, Any]) -> str:
    """Return one line on the reliability of all modalities; empty if there is none.

    Examples
    --------
    >>> spread = {"pix": {"mean": 0.9, "sd": 0.2, "at_one": 0.85, "at_zero": 0.05}}
    >>> spread_text({"spread": {"reliability": spread}})
    'pix 0.900 ± 0.200 (1 in 85.0%, 0 in 5.0%)'
    """
    return ", ".join(
        f"{m} {of['mean']:.3f} ± {of['sd']:.3f} (1 in {100 * of['at_one']:.1f}%, 0 in {100 * of['at_zero']:.1f}%)"
        for m, of in spread_of(record).items()
    )


class ConstantReliability:
    """Warning about reliabilities that do not distinguish training rows, given once a run."""

    def __init__(self) -> None:
        self._given = False

    def __call__(self, record: dict[str, Any]) -> str | None:
        """Return the warning if the epoch of `record` is the first after warm-up that needs it, else None."""
        if self._given or record["phase"] == "warm-up":
            return None
        parts = []
        for m, of in spread_of(record).items():
            value, fraction = max((1, of["at_one"]), (0, of["at_zero"]), key=lambda end: end[1])
            if fraction > CONSTANT:
                parts.append(f"{m} has reliability {value} in {100 * fraction:.1f}% of the training rows")
        if not parts:
            return None
        self._given = True
        return (
            f"epoch {record['epoch']}: {', '.join(parts)}: GSC gives them all the same weight, so its slope a has no "
            'effect; see "A constant reliability" in docs/method.md'
        )
