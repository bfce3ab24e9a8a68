"""Section on accuracy by severity, a panel for each kind of noise on each modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cpsc_train.data.noise import KINDS
from cpsc_train.evaluation.curves import kinds
from cpsc_train.models import FUSED
from cpsc_train.reporting.report.panel import Panel, Section, legend, sides
from cpsc_train.reporting.report.source import Run, Series, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Course = list[tuple[float, float]]
"""Severity, or level, and accuracy in %, in ascending order."""


def noise(runs: Sequence[Run]) -> Section:
    """Draw fused accuracy by severity, a panel for each kind of noise on one or more modalities.

    The horizontal axis counts levels if all conditions of the kind have one, and severities in the unit of the kind
    otherwise. All panels have the same vertical axis.
    """
    shown = series(runs)
    parts = [_by_kind(one.run) for one in shown]
    drawn = {}
    for kind in dict.fromkeys(kind for by_kind in parts for kind in by_kind):
        of_kind = [by_kind.get(kind, {}) for by_kind in parts]
        levels = all(_level(corrupted) for conditions in of_kind for corrupted in conditions.values())
        if levels or "+" not in kind:
            axis = "level" if levels else "severity"
            drawn[kind, axis] = [_course(one, kind, by, axis) for one, by in zip(shown, of_kind, strict=True)]
    accuracies = [accuracy for courses in drawn.values() for course in courses for _, accuracy in course]
    panels = [_panel(shown, kind, axis, courses, accuracies) for (kind, axis), courses in drawn.items()]
    caption = (
        "Fused accuracy on test rows if modalities are noisy in every row; level or severity 0 is clean. A dotted line "
        "is the accuracy without the noisy modality: below it, the decision relies too much on that modality."
    )
    return Section("Accuracy by severity of noise", caption, panels)


def _panel(
    shown: Sequence[Series],
    kind: str,
    axis: str,
    courses: Sequence[Course],
    accuracies: Sequence[float],
) -> Panel:
    title = " and ".join(f"{name} noise on {modality}" for modality, name in _split(kind))
    without = f"without-{'+'.join(modality for modality, _ in _split(kind))}"

    def draw(axes: Axes) -> None:
        with sides(axes, x=axis, y="accuracy, %"):
            for one, points in zip(shown, courses, strict=True):
                if points:
                    x, y = zip(*points, strict=True)
                    axes.plot(x, y, linestyle=one.line, markersize=5, **one.style)
                if one.hollow and without in one.test:
                    axes.axhline(_accuracy(one, without), color=one.colour, linestyle=":", linewidth=1)
        axes.set_ylim(max(0, min(accuracies) - 4), min(102, max(accuracies) + 4))
        legend(axes)

    return Panel(
        f"noise-{kind.replace(':', '-')}", title, draw, "accuracy by severity; the values are in the table above"
    )


def _course(one: Series, kind: str, conditions: Mapping[str, Sequence[Mapping[str, Any]]], axis: str) -> Course:
    points = [(float(parts[0][axis]), _accuracy(one, name)) for name, parts in conditions.items()]
    if points and (axis == "level" or _grows(kind)):
        points.append((0.0, _accuracy(one, "clean")))
    return sorted(points)


def _by_kind(run: Run) -> dict[str, dict[str, Sequence[Mapping[str, Any]]]]:
    """Return the corruptions of the measured conditions that corrupt every row, by kind and condition."""
    by_kind: dict[str, dict[str, Sequence[Mapping[str, Any]]]] = {}
    results = run.results or {}
    for name, parts in results.get("conditions", {}).items():
        if name in results["test"] and parts and all(part["share"] == 1 for part in parts):
            by_kind.setdefault("+".join(kinds(parts)), {})[name] = parts
    return by_kind


def _level(parts: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the level of all corruptions of a condition, if they have the same."""
    levels = {part["level"] for part in parts}
    return levels.pop() if len(levels) == 1 else None


def _accuracy(one: Series, condition: str) -> float:
    return one.figure(condition, lambda figures: 100 * figures["accuracy"][FUSED])


def _split(kind: str) -> list[tuple[str, str]]:
    return [(modality, name) for modality, _, name in (one.partition(":") for one in kind.split("+"))]


def _grows(kind: str) -> bool:
    corruption = KINDS.get(_split(kind)[0][1])
    return corruption is None or corruption.levels[0] < corruption.levels[-1]
