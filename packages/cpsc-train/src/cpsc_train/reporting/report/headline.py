"""First and last parts of a report: warnings, the main figures, what was run, and the settings that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cpsc_train.models import FUSED
from cpsc_train.reporting.figures import ABSENT, lacking, percent
from cpsc_train.reporting.report.panel import APART, Section, Table
from cpsc_train.reporting.report.source import PROTOCOL, Run, differing, fused, protocol_differences, series

PARTS = ("train", "calibration", "validation", "test")
BORDERS = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "double"}
"""Style of a border in HTML by line style."""


def notes(runs: Sequence[Run]) -> list[str]:
    """Return notes on runs that cannot be compared and on what the report does not show."""
    texts = []
    if different := protocol_differences(runs):
        texts.append(
            f"These runs differ in {', '.join(different)}: their figures come from different protocols and must not be "
            f"compared. Comparable runs share {', '.join(PROTOCOL)}."
        )
    for run in runs:
        absent = [("results", run.results), ("predictions.npz", run.predictions), ("a completed epoch", run.records)]
        if lacks := [name for name, content in absent if not content]:
            texts.append(f"{run.name} ({run.status}) has no {', '.join(lacks)}; what they contain is not shown.")
    if len(runs) > APART:
        texts.append(
            f"The {len(runs) - APART} runs after {runs[APART - 1].name} appear only where runs are compared: "
            "report fewer at a time for pictures and tables of their own."
        )
    return texts


def figures(runs: Sequence[Run]) -> Table:
    """Return accuracy, coverage and set size of each run and inference variant on clean test rows."""
    shown = series(runs)
    modalities = list(dict.fromkeys(m for one in shown for m in one.run.modalities))
    rows = []
    for one in shown:
        clean = one.test["clean"]
        sets = fused(clean)
        worst = min(
            (name for name in one.test if name != "clean"), key=lambda name: _accuracy(one.test[name]), default=""
        )
        lowest = f"{percent(_accuracy(one.test[worst]))} ({worst})" if worst else ABSENT
        rows.append(
            [
                one.name,
                percent(_accuracy(clean)),
                f"{sets['coverage']:.3f} (target {sets['target']:.2f})",
                f"{sets['mean_size']:.2f}",
                f"{clean['expected_calibration_error'][FUSED]:.3f}",
                lowest,
                *(percent(clean["accuracy"].get(m)) for m in modalities),
            ]
        )
    header = ["clean test rows", "accuracy, %", "coverage", "mean set size", "calibration error", "lowest accuracy, %"]
    return Table("", [*header, *(f"{m} alone, %" for m in modalities)], rows)


def swatch(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return the colour and the style of border of each row of `figures`."""
    return [(one.colour, BORDERS[one.line]) for one in series(runs)]


def facts(runs: Sequence[Run]) -> Table:
    """Return data, rows, method, seed, date and duration of each run."""
    rows = []
    for run in runs:
        results = run.results or {}
        data = results.get("data", {})
        epochs = run.records[-1]["epoch"] if run.records else 0
        best = results.get("selected", {}).get("epoch", ABSENT)
        rows.append(
            [
                run.name,
                str(run.config["data"]["name"]),
                str(run.config["method"]["name"]),
                ", ".join(f"{data[part]:,} {part}" for part in PARTS) if data else ABSENT,
                str(run.config["seed"]),
                f"{epochs} (best {best})",
                str(run.environment.get("started", ABSENT)).replace("T", " ")[:16],
                _duration(results["seconds"]) if "seconds" in results else ABSENT,
                run.status,
            ]
        )
    header = ["run", "data set", "method", "rows", "seed", "epochs", "started", "duration", "status"]
    return Table("", header, rows)


def settings(runs: Sequence[Run]) -> Section:
    """Return the recipe, what the runs were made with, the time of an epoch, and the settings that differ."""
    parts = list(dict.fromkeys(part for run in runs for record in run.records for part in record["time"]))
    versions = [run.environment.get("versions", {}) for run in runs]
    results = [run.results or {} for run in runs]
    rows = [
        ["recipe", *(str(run.config.get("recipe", ABSENT)) for run in runs)],
        ["missing modalities", *("; ".join(lacking(of.get("data", {}))) or "none" for of in results)],
        ["noise in training", *(", ".join(of.get("seen", {}).get("training", [])) or "none" for of in results)],
        *([f"seconds of an epoch: {part}", *(_median(run, part) for run in runs)] for part in parts),
        ["torch", *(str(of.get("torch", ABSENT)) for of in versions)],
        ["GPU", *(str(run.environment.get("gpu") or "none") for run in runs)],
        *([key, *values] for key, values in differing(runs).items() if key not in {"recipe", "method.name", "seed"}),
    ]
    caption = "Seconds are medians over the epochs after warm-up. All settings of a run are in its config.toml."
    return Section("Settings", caption, [], [Table("", ["", *(run.name for run in runs)], rows)])


def _accuracy(condition: Mapping[str, Any]) -> float:
    return float(condition["accuracy"][FUSED])


def _median(run: Run, part: str) -> str:
    after = [record for record in run.records if record["phase"] != "warm-up"] or run.records
    return f"{np.median([record['time'].get(part, 0.0) for record in after]):.2f}" if after else ABSENT


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
