"""Sections on the test rows by condition, and on accuracy by severity of noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cpsc_train.data.noise import KINDS
from cpsc_train.evaluation.curves import kinds
from cpsc_train.models import FUSED
from cpsc_train.reporting.figures import coverage_and_size, percent
from cpsc_train.reporting.report.panel import ROW, Panel, Section, Table, legend, shortened, sides
from cpsc_train.reporting.report.source import Run, Series, fused, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EMPTY = "A set is empty if no class reaches the threshold; it counts as a set without the true class."
"""Note on empty sets."""


def by_condition(runs: Sequence[Run]) -> Section:
    """Draw and list accuracy, coverage and set size of the fused decision under each condition."""
    shown = series(runs)
    names = list(dict.fromkeys(name for one in shown for name in one.test))

    def panel(name: str, title: str, value: Callable[[dict[str, Any]], float], *, target: bool = False) -> Panel:
        def draw(axes: Axes) -> None:
            with sides(axes, x="", y=""):
                for goal in {fused(one.test["clean"])["target"] for one in shown if target}:
                    axes.axvline(goal, color="0.5", linewidth=1.5)
                values = np.array([[one.figure(condition, value) for condition in names] for one in shown])
                axes.hlines(range(len(names)), np.nanmin(values, 0), np.nanmax(values, 0), color="0.5", linewidth=1)
                for one, x in zip(shown, values, strict=True):
                    axes.plot(x, range(len(names)), linestyle="", markersize=7 if one.hollow else 5, **one.style)
            axes.locator_params(axis="x", nbins=5)
            axes.set_yticks(range(len(names)), [shortened(condition) for condition in names])
            axes.set_ylim(len(names) - 0.4, -0.6)
            legend(axes)

        return Panel(name, title, draw, "by condition; the table has the values", height=1.2 + ROW * len(names))

    panels = [
        panel("accuracy", "Accuracy, %", lambda figures: 100 * figures["accuracy"][FUSED]),
        panel("coverage", "Coverage", lambda figures: fused(figures)["coverage"], target=True),
        panel("set-size", "Mean set size", lambda figures: fused(figures)["mean_size"]),
    ]
    caption = (
        "Fused decision on the test rows: clean, with noise, and without a modality (without-…); without and with each "
        f"inference variant. The grey line is the target of coverage. {EMPTY}"
    )
    return Section("Results by condition", caption, panels if shown else [], _tables(shown, names) if shown else [])


def _tables(shown: Sequence[Series], names: Sequence[str]) -> list[Table]:
    """Return accuracy, and of a single run also that of each modality; and coverage with set size, by condition."""
    first = shown[0]
    heads = first.run.modalities if all(one.run is first.run for one in shown) else []
    accuracies, sets = [], []
    for name in names:
        under = [one.test.get(name) for one in shown]
        alone = [percent(first.test[name]["accuracy"].get(m)) for m in heads]
        accuracies.append([name, *alone, *(percent(of["accuracy"][FUSED] if of else None) for of in under)])
        sets.append([name, *(coverage_and_size(fused(of) if of else None) for of in under)])
    columns = [one.name for one in shown]
    return [
        Table("Accuracy, %", ["condition", *(f"{m} alone" for m in heads), *columns], accuracies),
        Table("Coverage (mean set size)", ["condition", *columns], sets),
    ]


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
