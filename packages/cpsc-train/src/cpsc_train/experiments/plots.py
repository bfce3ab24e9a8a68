"""Figures of experiments: paired differences of an ablation, mean ranks of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cpsc_train.experiments.scoreboard import Scoreboard
from cpsc_train.experiments.table import Summary
from cpsc_train.printable import visible
from cpsc_train.reporting.report.panel import Panel, require_matplotlib, sides
from cpsc_train.writing import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE = "#0072b2"


def plot_differences(summary: Summary, path: Path) -> Path:
    """Draw the differences of all variants to the first one, or to their reference, with their intervals.

    Raises UserError if matplotlib is not installed.
    """
    first = next(iter(summary.values))
    others = [variant for variant in summary.values if summary.reference(variant) != variant]
    names = [v if summary.reference(v) == first else f"{v} (to {summary.reference(v)})" for v in others]
    means, lows, highs, _ = np.array([summary.difference(variant) for variant in others]).reshape(-1, 4).T

    def draw(axes: Axes) -> None:
        with sides(axes, x="points (95 % interval, paired by seed)", y=""):
            axes.axvline(0, color="0.6", linewidth=1)
            reach = np.nan_to_num([means - lows, highs - means])
            axes.errorbar(means, np.arange(len(others)), xerr=reach, fmt="o", color=BLUE, capsize=3)
            _name_rows(axes, names)

    return _drawn(f"Fused {summary.part} accuracy, difference to “{first}”", draw, len(others), path)


def plot_ranks(board: Scoreboard, path: Path) -> Path:
    """Draw the mean ranks of all methods, with Nemenyi's critical difference as a band from the best.

    Raises UserError if matplotlib is not installed.
    """
    rows = sorted(board.rows, key=lambda row: row.rank)

    def draw(axes: Axes) -> None:
        with sides(axes, x="mean rank; in the band: no significant difference to the best", y=""):
            axes.plot([row.rank for row in rows], np.arange(len(rows)), "o", color=BLUE, markersize=4)
            if not np.isnan(board.critical):
                axes.axvspan(rows[0].rank, rows[0].rank + board.critical, color=BLUE, alpha=0.12)
            _name_rows(axes, [row.name for row in rows])

    return _drawn(f"Mean rank, {board.suite.primary}, {board.data}", draw, len(rows), path)


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [visible(name, line=True) for name in names], fontsize=6, parse_math=False)
    axes.invert_yaxis()


def _drawn(title: str, draw: Callable[[Axes], None], rows: int, path: Path) -> Path:
    require_matplotlib()
    panel = Panel(path.stem, visible(title, line=True), draw, height=max(3.25, 1 + 0.14 * rows), size=8)
    write(path, panel.render("light"))
    return path
