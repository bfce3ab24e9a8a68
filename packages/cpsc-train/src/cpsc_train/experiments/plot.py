"""A picture of an ablation: every variant's paired difference to the first one, with its interval."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from cpsc_train.experiments.grid import Results
from cpsc_train.experiments.tables import summarise
from cpsc_train.reporting.report.panel import require_matplotlib
from cpsc_train.shown import visible
from cpsc_train.writing import write


def plot_summary(results: Results, path: Path) -> Path:
    """Draw the differences on test rows, mean over clean and noisy conditions.

    Raises
    ------
    UserError
        If matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # an extra, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    summary = summarise(results, "test")
    first, *others = summary.values
    found = np.array([summary.difference(variant) for variant in others]).reshape(-1, 3)
    figure = Figure(figsize=(7, 1.4 + 0.28 * len(others)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = np.arange(len(others))
    axes.axvline(0, color="0.6", linewidth=1)
    reach = np.nan_to_num(np.abs(found[:, 1:] - found[:, :1]).T)
    axes.errorbar(found[:, 0], places, xerr=reach, fmt="o", color="#0072b2", capsize=3)
    axes.set_yticks(places, [visible(name, line=True) for name in others], parse_math=False)
    axes.invert_yaxis()
    first = visible(first, line=True)
    label = f"difference to “{first}” in fused test accuracy, points (95 % interval, paired by seed)"
    axes.set_xlabel(label, parse_math=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150, format="png")
    write(path, picture.getvalue())
    return path
