"""Section on inference variants: their accuracy and prediction sets beside the plain ones, and trust in modalities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cpsc_train.models import FUSED
from cpsc_train.reporting.figures import ABSENT, coverage_and_size, down_weighted, percent
from cpsc_train.reporting.report.panel import Panel, Section, Table, colour, individual, shortened, sides
from cpsc_train.reporting.report.source import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLAIN = "plain"
"""Name of the prediction without a variant."""
WEIGHTS = "trust"
"""Key of the weights of a condition: by modality, the fraction of down-weighted rows, and the mean."""
SIZE = 10.5
"""Font size in points: 12 pixels of the page."""
CELLS = 8
"""Most modalities whose cells contain numbers."""

Conditions = dict[str, dict[str, Any]]
"""Figures of the test rows by condition."""


def inference(runs: Sequence[Run]) -> Section:
    """Draw accuracy, coverage, set size and trust by condition, panels per run, and list the thresholds of the sets."""
    done = [run for run in runs if (run.results or {}).get("inference")]
    shown, more = individual(done)
    caption = (
        "Fused decision of the same trained model on the test rows under each condition, plain and with each inference "
        "variant. For variants that weight modalities: the fraction of rows in which each is down-weighted, and its "
        "mean weight (1: nothing is unusual). The grey line is the target of coverage."
    )
    panels = [panel for run in shown for panel in _panels(run, several=len(runs) > 1)]
    tables = [table for run in shown for table in (_figures(run), _thresholds(run))]
    absent = [f"{run.name}: no inference variant was evaluated ({run.status})" for run in runs if run not in done]
    return Section("Inference variants and trust", caption, panels, [*absent, *more], tables)


def _panels(run: Run, *, several: bool) -> list[Panel]:
    ways = _ways(run)
    suffix = f", {shortened(run.name)}" if several else ""
    target = float(_sets(ways[PLAIN]["clean"])["target"])
    height = 1.2 + 0.24 * len(ways[PLAIN])

    def panel(name: str, title: str, draw: Callable[[Axes], None]) -> Panel:
        return Panel(f"{name}-{run.name}", title + suffix, draw, height=height, size=SIZE)

    panels = [
        panel("inference-accuracy", "Accuracy, %", _dots(ways, lambda of: 100 * of["accuracy"][FUSED])),
        panel("inference-coverage", "Coverage", _dots(ways, lambda of: _sets(of)["coverage"], target)),
        panel("inference-set-size", "Mean set size", _dots(ways, lambda of: _sets(of)["mean_size"])),
    ]
    for name, conditions in ways.items():
        if WEIGHTS in conditions["clean"]:
            panels += [
                panel(f"down-weighted-{name}", f"Rows down-weighted by {name}, %", _cells(run, conditions, _fraction)),
                panel(f"mean-{name}", f"Mean weight of {name}", _cells(run, conditions, _mean)),
            ]
    return panels


def _dots(
    ways: dict[str, Conditions], figure: Callable[[dict[str, Any]], float], target: float | None = None
) -> Callable[[Axes], None]:
    """Return a function that draws a figure, on the x axis, under each condition, on the y axis."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(ways[PLAIN]))
        values = {name: np.array([figure(of) for of in conditions.values()]) for name, conditions in ways.items()}
        with sides(axes, x="", y=""):
            if target is not None:
                axes.axvline(target, color="0.5", linewidth=1.5)
            every = np.stack(list(values.values()))
            axes.hlines(places, every.min(0), every.max(0), color="0.5", linewidth=1)
            axes.plot(values[PLAIN], places, "o", color="0.5", markersize=7, markerfacecolor="none", label=PLAIN)
            for place, name in enumerate(ways):
                if name != PLAIN:
                    axes.plot(values[name], places, "o", color=colour(place - 1), markersize=5, label=name)
        axes.locator_params(axis="x", nbins=5)
        _conditions(axes, list(ways[PLAIN]))
        axes.set_ylim(len(places) - 0.4, -0.6)
        _legend_above(axes, len(ways))

    return draw


def _cells(
    run: Run, conditions: Conditions, figure: Callable[[dict[str, float]], tuple[str, float]]
) -> Callable[[Axes], None]:
    """Return a function that draws a figure of the weights as a table of conditions by modalities."""

    def draw(axes: Axes) -> None:
        from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415  # an extra, and slow to import

        entries = [[of[WEIGHTS].get(m) for m in run.modalities] for of in conditions.values()]
        texts = [[(ABSENT, 0.0) if entry is None else figure(entry) for entry in row] for row in entries]
        shades = [[shade for _, shade in row] for row in texts]
        colours = LinearSegmentedColormap.from_list("shade", [axes.get_facecolor(), colour(0)])
        axes.imshow(shades, cmap=colours, vmin=0, vmax=1, aspect="auto")
        if len(run.modalities) <= CELLS:
            for row, cells in enumerate(texts):
                for column, (text, shade) in enumerate(cells):
                    ink: dict[str, Any] = {"color": "white"} if shade > 0.85 else {}
                    axes.text(column, row, text, ha="center", va="center", **ink)
        _conditions(axes, list(conditions))
        narrow = max(map(len, run.modalities)) * len(run.modalities) > 24
        turned: dict[str, Any] = {"rotation": 40, "ha": "left"} if narrow else {}
        axes.set_xticks(range(len(run.modalities)), [shortened(m) for m in run.modalities], **turned)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return draw


def _fraction(entry: dict[str, float]) -> tuple[str, float]:
    """Return the fraction of down-weighted rows in %, and its shade."""
    return f"{100 * entry['down_weighted']:.0f}", entry["down_weighted"]


def _mean(entry: dict[str, float]) -> tuple[str, float]:
    """Return the mean weight, and its shade, dark if it is low."""
    return f"{entry['mean']:.2f}", 1 - entry["mean"]


def _conditions(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])


def _legend_above(axes: Axes, entries: int) -> None:
    """Put the legend between the title and the plot, three entries a line."""
    lines = -(-entries // 3)
    axes.set_title(axes.get_title(loc="left"), loc="left", pad=8 + 15 * lines)
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.03, 1), "borderaxespad": 0.2}
    axes.legend(ncols=3, frameon=False, handletextpad=0.2, columnspacing=1, labelspacing=0.2, **place)


def _figures(run: Run) -> Table:
    """Return accuracy, coverage and set size by condition and variant, and the weights of the modalities."""
    ways = _ways(run)
    weighted = [(name, m) for name, of in ways.items() if WEIGHTS in of["clean"] for m in run.modalities]
    header = [
        "condition",
        *(f"{name}, accuracy %" for name in ways),
        *(f"{name}, coverage (set size)" for name in ways),
    ]
    header += [f"{name}, {m} down-weighted % (mean weight)" for name, m in weighted]
    rows = []
    for condition in ways[PLAIN]:
        of = {name: conditions[condition] for name, conditions in ways.items()}
        cells = [percent(one["accuracy"][FUSED]) for one in of.values()]
        cells += [coverage_and_size(_sets(one)) for one in of.values()]
        rows.append([condition, *cells, *(down_weighted(of[name][WEIGHTS].get(m)) for name, m in weighted)])
    return Table(f"{run.name}: fused decision by condition", header, rows)


def _thresholds(run: Run) -> Table:
    """Return the thresholds of the fused sets, with their coverage on the test rows of all conditions together."""
    header = ["inference", "missing", "mean typicality", "test rows", "calibration rows", "threshold", "coverage"]
    rows = []
    for name, conditions in _ways(run).items():
        together: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for of in conditions.values():
            for entry in _sets(of)["thresholds"]:
                kind = (", ".join(entry["absent"]) or "none", _typicality(entry))
                together.setdefault((*kind, entry["calibration"], entry["threshold"]), []).append(entry)
        for (*kind, calibration, value), entries in sorted(together.items(), key=lambda item: item[0][:2]):
            count = sum(entry["rows"] for entry in entries)
            covered = sum(entry["rows"] * entry["coverage"] for entry in entries) / count
            rows.append([name, *kind, f"{count:,}", f"{calibration:,}", _number(value), f"{covered:.3f}"])
    title = (
        f"{run.name}: thresholds of the fused prediction sets, with their coverage under all conditions together. "
        "Unusual rows have thresholds by least typical modality and mean typicality, from clean and corrupted copies "
        "of the calibration rows."
    )
    return Table(title, header, rows)


def _number(threshold: float) -> str:
    return f"{threshold:.3f}" if np.isfinite(threshold) else "∞ (full sets)"


def _typicality(entry: dict[str, Any]) -> str:
    """Return the range of typicality of a threshold."""
    if not entry["unusual"]:
        return "–"
    return "other" if entry["typicality"] is None else f"{entry['least_typical']} least, to {entry['typicality']:.3f}"


def _ways(run: Run) -> dict[str, Conditions]:
    """Return the figures of the test rows, plain and by variant."""
    results = run.results or {}
    return {PLAIN: results["test"]} | {name: of["test"] for name, of in results["inference"].items()}


def _sets(of: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of the fused prediction sets under a condition."""
    return dict(of["coverage"][FUSED])
