"""Accuracy by severity of a corruption, and conditions with seen and held-out kinds of corruption.

The functions read the content of ``results.json``. Of each condition, ``conditions`` there lists the corrupted
modalities with ``modality``, ``kind``, ``severity``, ``share`` (fraction of samples) and ``level`` (1 to 5, or None).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

Results = Mapping[str, Any]


def area(levels: Mapping[int, float]) -> float:
    """Return the area under values by level, divided by the range of levels.

    The trapezoidal rule connects the measured levels, so the area is a mean with the unit of the values. Areas are
    comparable only over the same levels.

    Parameters
    ----------
    levels
        By level, at least two; 0 is clean.

    Raises
    ------
    ValueError
        For fewer than two levels.

    Examples
    --------
    >>> round(area({0: 0.9, 1: 0.8, 3: 0.6, 5: 0.2}), 3)
    0.61
    """
    if len(levels) < 2:
        raise ValueError(f"levels must be at least 2, got {len(levels)}")
    points = sorted(levels.items())
    total = sum((right - left) * (low + high) / 2 for (left, low), (right, high) in pairwise(points))
    return total / (points[-1][0] - points[0][0])


def curves(results: Results, part: str = "test", variant: str | None = None) -> dict[str, Any]:
    """Return the accuracy by level of each modality and kind that was measured at two or more levels.

    Conditions that corrupt a fraction of the samples, or modalities at different levels, have no curve.

    Parameters
    ----------
    results
        ``conditions``, and the figures of the part.
    part
        ``test`` or ``validation``.
    variant
        Name of an inference variant. If None, the plain model.

    Returns
    -------
    dict
        By ``MODALITY:KIND``, joined by ``+`` if several modalities are corrupted: ``levels``, from 0 (clean) up, and by
        head ``accuracy`` at each and ``area``, as fractions.
    """
    measured: dict[str, dict[int, str]] = {}
    for name, parts in results.get("conditions", {}).items():
        level = _level(parts)
        if level is not None:
            measured.setdefault("+".join(kinds(parts)), {})[level] = name
    figures = (results if variant is None else results["inference"][variant])[part]
    report = {}
    for kind, names in measured.items():
        if len(names) < 2:
            continue
        levels = {0: "clean"} | dict(sorted(names.items()))
        values = {
            head: {level: float(figures[name]["accuracy"][head]) for level, name in levels.items()}
            for head in figures["clean"]["accuracy"]
        }
        report[kind] = {
            "levels": list(levels),
            "accuracy": {head: list(by_level.values()) for head, by_level in values.items()},
            "area": {head: area(by_level) for head, by_level in values.items()},
        }
    return report


def kinds(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the corruptions of a condition as ``MODALITY:KIND``."""
    return [f"{part['modality']}:{part['kind']}" for part in parts]


def held_out(results: Results, variant: str | None = None) -> dict[str, bool]:
    """Return by condition whether none of its corruptions was used in training or to fit the variant.

    Parameters
    ----------
    results
        ``seen`` lists corruptions used in ``training``, as ``MODALITY:KIND``; in ``inference``, ``seen`` of a variant
        those that it was fitted on.
    variant
        Name of an inference variant, whose corruptions also count. If None, only those of training.

    Returns
    -------
    dict
        By condition of ``conditions`` that corrupts anything.

    Examples
    --------
    >>> parts = {"a": [{"modality": "pix", "kind": "blur"}], "b": [{"modality": "pix", "kind": "gaussian"}]}
    >>> held_out({"conditions": parts, "seen": {"training": ["pix:gaussian"]}})
    {'a': True, 'b': False}
    """
    seen = set(results.get("seen", {}).get("training", ()))
    if variant is not None:
        seen |= set(results["inference"][variant].get("seen", ()))
    return {name: seen.isdisjoint(kinds(parts)) for name, parts in results.get("conditions", {}).items() if parts}


def means_by_use(values: Mapping[str, float], results: Results, variant: str | None = None) -> dict[str, float]:
    """Return the means of values by condition: of corruptions that were used (``seen``), and of others (``held out``).

    A mean over no conditions is absent. The arguments besides `values` are those of `held_out`.
    """
    groups: dict[str, list[float]] = {"seen": [], "held out": []}
    for name, unseen in held_out(results, variant).items():
        if name in values:
            groups["held out" if unseen else "seen"].append(values[name])
    return {name: float(np.mean(group)) for name, group in groups.items() if group}


def _level(parts: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the level of a condition; None if it has none, more than one, or leaves samples clean."""
    levels = {part["level"] if part["share"] == 1 else None for part in parts}
    return levels.pop() if len(levels) == 1 else None
