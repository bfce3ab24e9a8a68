"""Section on the test rows by condition: accuracy and prediction sets without and with each inference variant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

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
