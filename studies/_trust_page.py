"""The page on trust at inference, from the CSV files of ``trust.py`` and of the comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
from _runs import ABSENT, Line, Runs, Values, read
from _tables import difference, header

from cpsc_train.experiments.statistics import Difference, paired_difference
from cpsc_train.experiments.table import interval, markdown_text, mean_sd

BASE = "joint-unimodal"
TRUSTED = f"{BASE} + trust"
TITLES = {
    "handwritten": "Handwritten digits, `fou` and `zer`",
    "handwritten-pix-fou": "Handwritten digits, `pix` and `fou`",
    "mvsa-single": "MVSA-Single, image and text, features",
    "nyu-depth-v2": "NYU Depth V2, colour and depth, features",
    "scene15": "Scene-15, three views",
    "utd-mhad": "UTD-MHAD, depth, skeleton and inertial",
    "avletters": "AVLetters, sound and lips, by repetition",
    "avletters-speaker": "AVLetters, by speaker",
    "av-digits": "av-digits, sound and image",
    "av-digits-speaker": "av-digits, by speaker",
    "nyu-fine-tuned": "NYU Depth V2, fine-tuned encoders",
    "mvsa-fine-tuned": "MVSA-Single, fine-tuned encoders",
}
"""Data sets of the study of trust."""
COLUMNS = ("clean", "seen", "held out", "all", "worst")


def trusted(results: Path) -> dict[str, Runs]:
    """Return the runs of the study by data set, in the order of `TITLES`."""
    paths = {name: results / f"trust-{name}.csv.gz" for name in TITLES}
    return {name: Runs(read(path)) for name, path in paths.items() if path.exists()}


def sections(results: Path) -> Iterator[str]:
    """Yield the summary of all data sets, the checks of it, and the tables of each."""
    sets, fresh = trusted(results), trusted(results / "fresh")
    yield "## All data sets\n"
    yield _summary(sets)
    yield "## Prediction sets\n"
    yield _coverage(sets)
    if fresh:
        yield "## Fresh seeds\n"
        yield "Seeds and divisions that played no part in any choice, of the plain model and of augmentation.\n"
        yield _summary(fresh)
        yield _coverage(fresh)
    if (path := results / "trust-control.csv").exists():
        yield "## Permuted distances\n"
        yield _control(read(path))
    for name, runs in sets.items():
        yield f"## {TITLES[name]}\n"
        yield _rows(runs)
        yield _conditions(runs)
        yield _missing(runs)


def short(results: Path) -> str:
    """Return the table of README.md: accuracy and lowest coverage by data set, without and with trust."""
    lines, clean = [], [0.0]
    for name, runs in trusted(results).items():
        means = {row: float(runs.figures(row)["all"].mean()) for row in runs.rows}
        noisy = [line["condition"] for line in runs.conditions if line["condition"] != "clean"]
        lowest = [
            min(100 * runs.mean(row, [condition], "coverage").mean() for condition in noisy) for row in (BASE, TRUSTED)
        ]
        clean.append(abs(runs.difference(TRUSTED, BASE, "clean").mean))
        lines.append(
            [
                TITLES[name],
                *(f"{means[row]:.1f}" for row in (BASE, TRUSTED)),
                interval(*runs.difference(TRUSTED, BASE, "all")[:3]),
                f"{max(mean for row, mean in means.items() if not row.endswith(' + trust')):.1f}",
                " → ".join(f"{coverage:.0f}" for coverage in lowest),
            ]
        )
    columns = ["data", "plain", "with trust", "difference", "best without trust", "lowest coverage"]
    return f"{_table(columns, lines)}\nOn clean rows, trust changes mean accuracy by at most {max(clean):.2f} points.\n"


def apart(runs: Runs, first: str, second: str, conditions: list[str], measure: str = "accuracy") -> Difference:
    """Return the paired difference of the mean of a measure over conditions, in points."""
    values = (100 * runs.mean(row, conditions, measure) for row in (first, second))
    return paired_difference(*values, divisions=runs.divisions, overlap=runs.overlap)


def _summary(sets: Mapping[str, Runs]) -> str:
    lines = []
    for name, runs in sets.items():
        figures = {row: float(runs.figures(row)["all"].mean()) for row in runs.rows}
        rivals = {row: value for row, value in figures.items() if not row.endswith(" + trust")}
        best, first = max(rivals, key=lambda row: rivals[row]), max(figures, key=lambda row: figures[row])
        condition, lowest = _costliest(runs)
        lines.append(
            [
                TITLES[name],
                f"{figures[BASE]:.1f}",
                f"{figures[TRUSTED]:.1f}",
                interval(*runs.difference(TRUSTED, BASE, "all")[:3]),
                interval(*runs.difference(TRUSTED, BASE, "clean")[:3]),
                f"{markdown_text(best)} {rivals[best]:.1f}",
                interval(*runs.difference(TRUSTED, best, "all")[:3]),
                f"{markdown_text(first)} {figures[first]:.1f}",
                f"{interval(*lowest[:3])} (`{condition}`)",
            ]
        )
    columns = ("data", BASE, "+ trust", "difference", "difference, clean", "best row without trust", "difference to it")
    return _table([*columns, "best of all rows", "condition with the largest loss"], lines)


def _control(lines: list[Line]) -> str:
    ways = [column for column in lines[0] if column not in {"data", "run"}]
    rows = []
    for name, runs in groupby(lines, key=lambda line: line["data"]):
        table = list(runs)
        columns = {way: [float(line[way]) for line in table] for way in ways}
        cells = [f"{np.mean(values):.1f}" for values in columns.values()]
        cells += [difference(columns["trust"], values) for way, values in columns.items() if way != "trust"]
        rows.append([TITLES[name], str(len(table)), *cells])
    text = (
        "Accuracy in % of joint-unimodal, each test row under one condition drawn at random, with weights at its own "
        "distances (*trust*), at those of another row, and at those of another modality of the same row:\n\n"
    )
    heads = ["data", "runs", *ways, *(f"trust − {way}" for way in ways if way != "trust")]
    return text + _table(heads, rows)


def _costliest(runs: Runs) -> tuple[str, Difference]:
    """Return the condition in which trust changes accuracy the least favourably, and the difference."""
    found = {line["condition"]: apart(runs, TRUSTED, BASE, [line["condition"]]) for line in runs.conditions}
    condition = min(found, key=lambda one: found[one].mean)
    return condition, found[condition]


def _coverage(sets: Mapping[str, Runs]) -> str:
    lines = []
    for name, runs in sets.items():
        names = [line["condition"] for line in runs.conditions]
        parts = {
            "clean": ["clean"],
            "seen": [one for one in names if one in runs.seen],
            "held out": [one for one in names if one not in runs.seen and one != "clean"],
            "missing": _absent(runs),
        }
        for row in (BASE, TRUSTED):
            cells = [_lowest(runs, row, conditions) for conditions in parts.values()]
            sizes = [f"{runs.mean(row, one, 'size').mean():.2f}" if one else "–" for one in parts.values()]
            lines.append([TITLES[name], row, *(cell for pair in zip(cells, sizes, strict=True) for cell in pair)])
    columns = [f"{part}, {what}" for part in ("clean", "seen", "held out", "missing") for what in ("lowest", "size")]
    return _table(["data", "row", *columns], lines)


def _lowest(runs: Runs, row: str, conditions: list[str]) -> str:
    """Return the lowest coverage over conditions in %, mean over runs, with its interval."""
    if not conditions:
        return "–"
    found = {one: 100 * runs.mean(row, [one], "coverage") for one in conditions}
    condition = min(found, key=lambda one: found[one].mean())
    return _interval_of(found[condition])


def _interval_of(values: Values) -> str:
    mean, low, high, _ = paired_difference(values, np.zeros(len(values)))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _rows(runs: Runs) -> str:
    lines = []
    for row in sorted(runs.rows, key=lambda row: -float(runs.figures(row)["all"].mean())):
        figures = runs.figures(row)
        cells = [mean_sd(figures[column]) for column in (*COLUMNS, "coverage")]
        difference = "–" if row == BASE else interval(*runs.difference(row, BASE, "all")[:3])
        lines.append([markdown_text(row), *cells, f"{figures['size'].mean():.2f}", difference])
    return _table(["row", *COLUMNS, "coverage, clean", "size, clean", f"− {BASE}, all"], lines)


def _conditions(runs: Runs) -> str:
    lines = []
    for line in runs.conditions:
        condition = line["condition"]
        group = "clean" if condition == "clean" else "seen" if condition in runs.seen else "held out"
        rows = (BASE, TRUSTED)
        cells = [f"{100 * runs.mean(row, [condition]).mean():.1f}" for row in rows]
        coverages = [f"{100 * runs.mean(row, [condition], 'coverage').mean():.1f}" for row in rows]
        sizes = [f"{runs.mean(row, [condition], 'size').mean():.2f}" for row in rows]
        sets = [", ".join(pair) for pair in zip(coverages, sizes, strict=True)]
        lines.append([f"`{condition}`", group, *cells, interval(*apart(runs, TRUSTED, BASE, [condition])[:3]), *sets])
    columns = ["condition", "kind", BASE, "+ trust", "difference", "coverage, size", "coverage, size + trust"]
    return "Accuracy, and coverage (target 90 %) with mean size of the sets:\n\n" + _table(columns, lines)


def _missing(runs: Runs) -> str:
    lines = []
    for condition in _absent(runs):
        for row in (BASE, TRUSTED):
            accuracy = mean_sd(100 * runs.mean(row, [condition]))
            coverage = _interval_of(100 * runs.mean(row, [condition], "coverage"))
            lines.append([condition, row, accuracy, coverage, f"{runs.mean(row, [condition], 'size').mean():.2f}"])
    return "Missing modalities:\n\n" + _table(["condition", "row", "accuracy", "coverage", "size"], lines)


def _absent(runs: Runs) -> list[str]:
    first = next(iter(runs.rows[BASE].values()))
    return [condition for condition, line in first.items() if line["kind"] == ABSENT]


def _table(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join([header(*columns), *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
