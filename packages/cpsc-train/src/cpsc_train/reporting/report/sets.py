"""Sections on the prediction sets, the trust and the confusion of the test rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cpsc_train.evaluation import metrics
from cpsc_train.models import FUSED
from cpsc_train.reporting.figures import ABSENT, coverage_and_size, down_weighted
from cpsc_train.reporting.report.conditions import EMPTY
from cpsc_train.reporting.report.panel import Panel, Section, Table, colour, curve, individual, legend, of, sides
from cpsc_train.reporting.report.source import PLAIN, Run, fused

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def sets(runs: Sequence[Run]) -> Section:
    """Draw accuracy by set size, and the coverage of each class; list coverage by head, and the thresholds."""
    done = [run for run in runs if run.tests]

    def by_size(run: Run) -> Panel:
        def draw(axes: Axes) -> None:
            sizes = fused(run.tests[PLAIN]["clean"])["sizes"]
            values = [100 * entry["accuracy"] for entry in sizes.values()]
            with sides(axes, x="classes in the set; above: rows", y="accuracy, %"):
                bars = axes.bar(list(sizes), values, color=colour(0), width=0.6)
            axes.bar_label(bars, [str(entry["count"]) for entry in sizes.values()])
            axes.set_ylim(0, 112)

        title = f"Accuracy by set size{of(run, runs)}"
        return Panel(
            f"set-accuracy-{run.name}", title, draw, "accuracy of the most probable class, and rows of each size"
        )

    def by_class(axes: Axes) -> None:
        with sides(axes, x="class", y="coverage"):
            for run in done:
                clean = fused(run.tests[PLAIN]["clean"])
                coverages = [np.nan if value is None else value for value in clean["class_coverage"]]
                curve(axes, range(len(coverages)), coverages, runs.index(run), run.name, marker="o", linestyle="")
                axes.axhline(clean["target"], color="0.5", linewidth=0.8)
        axes.set_ylim(top=1.02)
        legend(axes)

    panels = [by_size(run) for run in individual(done)]
    if done:
        panels.append(
            Panel("class-coverage", "Coverage of each class", by_class, "classes in the order of the data set")
        )
    caption = (
        "Fused decision on clean test rows, without inference variants. Rows with a set of one class should be right "
        f"far more often than the others. {EMPTY} Coverage is guaranteed on average over the classes, not for each. "
        "Thresholds depend on the missing modalities and, with variants that measure typicality, the least typical "
        "modality and the mean typicality of a row; those of rows that are not typical (–: typical) are calibrated on "
        "clean and corrupted copies; rows in no range of them (other) have the largest threshold."
    )
    tables = [_by_head(done)] if done else []
    return Section("Prediction sets", caption, panels, tables + [_thresholds(run, runs) for run in individual(done)])


def _by_head(runs: Sequence[Run]) -> Table:
    heads = list(dict.fromkeys(head for run in runs for head in run.heads))
    rows = []
    for run in runs:
        for part, entries in (run.results or {})["coverage"].items():
            name = f"{run.name}, {part}" if len(runs) > 1 else part
            rows.append([name, *(coverage_and_size(entries.get(head)) for head in heads)])
    return Table("Coverage (mean set size) on clean rows, by head", ["rows", *heads], rows)


def _thresholds(run: Run, runs: Sequence[Run]) -> Table:
    """Return the thresholds of the fused sets, with their coverage on the test rows of all conditions together."""
    header = ["inference", "missing", "typicality", "test rows", "calibration rows", "threshold", "coverage"]
    rows = []
    for name, conditions in run.tests.items():
        together: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for figures in conditions.values():
            for entry in fused(figures)["thresholds"]:
                missing = ", ".join(entry["absent"]) or "none"
                key = (missing, _typicality(entry), entry["calibration"], entry["threshold"])
                together.setdefault(key, []).append(entry)
        for key, entries in sorted(together.items(), key=lambda item: item[0][:2]):
            missing, typicality, calibration, value = key
            count = sum(entry["rows"] for entry in entries)
            covered = sum(entry["rows"] * entry["coverage"] for entry in entries) / count
            number = f"{value:.3f}" if np.isfinite(value) else "∞ (full sets)"
            rows.append([name, missing, typicality, f"{count:,}", f"{calibration:,}", number, f"{covered:.3f}"])
    return Table(f"Thresholds and their coverage under all conditions{of(run, runs)}", header, rows)


def _typicality(entry: dict[str, Any]) -> str:
    if not entry["unusual"]:
        return "–"
    if entry["typicality"] is None:
        return "other"
    return f"{entry['least_typical']} least, mean to {entry['typicality']:.3f}"


CLASSES = 40
"""Most classes of a confusion matrix; of more, those with the most errors."""


def confusion(runs: Sequence[Run]) -> Section:
    """List the rows by true and predicted class, a table for each run."""
    caption = (
        f"Clean test rows by true class (rows) and predicted class (columns), fused decision. Of more than {CLASSES} "
        "classes, those with the most errors are shown."
    )
    shown = individual([run for run in runs if run.predictions])
    return Section("Confusion", caption, [], [_confusion(run, runs) for run in shown])


def _confusion(run: Run, runs: Sequence[Run]) -> Table:
    names, labels = run.predictions["classes"], run.predictions["labels"]
    counts = metrics.confusion_matrix(run.predictions[f"probabilities/{FUSED}"].argmax(1), labels, len(names))
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    errors = counts.sum(1) - np.diag(counts)
    places = np.sort(np.argsort(-errors, kind="stable")[:CLASSES])
    rows = [[str(names[row]), *(str(counts[row, column] or "") for column in places)] for row in places]
    header = ["true \\ predicted", *(str(names[column]) for column in places)]
    return Table(f"Rows by class{of(run, runs)}", header, rows, fractions[np.ix_(places, places)].tolist())


WEIGHTS = "trust"
"""Key of the weights of a condition: by modality, the fraction of down-weighted rows, and the mean."""


def trust(runs: Sequence[Run]) -> Section:
    """List the rows in which each modality is down-weighted, and its mean weight, by condition and variant."""
    caption = (
        "Test rows in which a modality is down-weighted, in %, and in brackets its mean weight; darker is lower. "
        f"{ABSENT}: the modality is missing. A high fraction with a mean of 1.00 means that the modality is unusual "
        "but, on held-out rows, worth its full weight: it changes the prediction sets, not the decision."
    )
    tables = [
        _table(run, name, runs)
        for run in individual(runs)
        for name, test in run.tests.items()
        if name != PLAIN and WEIGHTS in test["clean"]
    ]
    return Section("Trust in modalities", caption, [], tables)


def _table(run: Run, name: str, runs: Sequence[Run]) -> Table:
    entries = {condition: figures[WEIGHTS] for condition, figures in run.tests[name].items()}
    results = (run.results or {})["inference"][name]
    notes = "".join(f" {note}." for note in results["notes"])
    seen = f" Fitted with {', '.join(results['seen'])}." if results["seen"] else ""
    return Table(
        f"Weights of {name}{of(run, runs)}.{seen}{notes}",
        ["condition", *run.modalities],
        [[condition, *(down_weighted(by.get(m)) for m in run.modalities)] for condition, by in entries.items()],
        [[1 - by[m]["mean"] if m in by else 0 for m in run.modalities] for by in entries.values()],
    )
