"""Write the pages of results from the CSV files in ``studies/results``.

    python studies/pages.py comparison      # docs/comparison.md
    python studies/pages.py results         # docs/results.md
    python studies/pages.py reproduces      # docs/reproduces.md
    python studies/pages.py readme          # the part of README.md between its two marks
    python studies/pages.py all

Sentences about methods are made from the figures: one says that a method is better or worse if the corrected p-value is
below .05, and else that the runs do not tell. A test checks that the pages are what this script writes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from _runs import Line, Runs, Values, read
from _tables import header

from cpsc_train.config import read_toml
from cpsc_train.experiments.statistics import Difference
from cpsc_train.experiments.table import interval, markdown_text, mean_sd

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies/results"
REFERENCE = "joint-unimodal"
LEVEL = 0.05
TITLES = {
    "handwritten": "Handwritten digits, `fou` and `zer`",
    "mvsa-single": "MVSA-Single, image and text",
    "nyu-depth-v2": "NYU Depth V2, colour and depth",
    "scene15": "Scene-15, three views",
    "avletters": "AVLetters, sound and lips",
}
NOTE = "This page is written by `python studies/pages.py {}` from `studies/results/`; change the script.\n"
MARKS = "<!-- results: python studies/pages.py readme -->\n", "<!-- end of results -->\n"
FIGURES = (
    *("clean", "held out", "seen", "all", "worst", "ECE", "coverage", "size", "coverage, noisy", "size, noisy"),
    "CPU, s",
)
README_ROWS = ("joint", REFERENCE, "cpsc", "cpsc + gate", f"{REFERENCE} + gate", "tmc")


def data_sets() -> dict[str, Runs]:
    """Return the runs of the comparison by data set, in the order of `TITLES`."""
    paths = {name: RESULTS / f"comparison-{name}.csv.gz" for name in TITLES}
    return {name: Runs(read(path)) for name, path in paths.items() if path.exists()}


def costs() -> list[Line]:
    """Return the processor time of each step."""
    path = RESULTS / "comparison-costs.csv"
    return read(path) if path.exists() else []


def signed(difference: Difference, p_value: float = float("nan")) -> str:
    """Return a difference with its interval, in bold if the corrected p-value is below .05."""
    text = interval(*difference[:3])
    return f"**{text}**" if p_value < LEVEL else text


def verdict(difference: Difference, p_value: float) -> str:
    """Return what the runs show about a difference."""
    if not p_value < LEVEL:
        return "not told apart"
    return "better" if difference.mean > 0 else "worse"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join([header(*columns), *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _methods(runs: Runs) -> str:
    rows = runs.plain()
    apart = runs.against(REFERENCE, rows, "held out")
    lines = []
    for row in sorted(rows, key=lambda row: -float(runs.figures(row)["held out"].mean())):
        figures = runs.figures(row)
        difference = signed(*apart[row]) if row in apart else "–"
        p_value = f"{apart[row][1]:.3f}" if row in apart else "–"
        if ", all rows" in row:  # nine calibration rows say nothing about coverage
            figures |= {name: np.full(1, np.nan) for name in FIGURES if name.startswith(("coverage", "size"))}
        cells = [_cell(name, figures[name]) for name in FIGURES]
        lines.append([markdown_text(row), *cells, difference, p_value])
    return table(["row", *FIGURES, "difference, held out", "p"], lines)


def _cell(name: str, values: Values) -> str:
    if not name.startswith("size") or np.isnan(values).any():
        return mean_sd(values)
    return f"{values.mean():.2f}"


def _inference(runs: Runs) -> str:
    others = [row for row in runs.rows if runs.inferences(row) != "plain"]
    kinds = list(dict.fromkeys(runs.inferences(row) for row in others))
    if not others:
        return ""
    lines = []
    for row in runs.plain():
        gains = [
            signed(runs.difference(f"{row} + {kind}", row, figure)) if f"{row} + {kind}" in runs.rows else "–"
            for kind in kinds
            for figure in ("clean", "seen", "held out")
        ]
        if set(gains) != {"–"}:
            lines.append([markdown_text(row), *gains])
    columns = [f"{kind}, {figure}" for kind in kinds for figure in ("clean", "seen", "held out")]
    return (
        "Gain by the kind of inference, same trained models, in points with the 95 % interval (not corrected):\n\n"
        + table(["row", *columns], lines)
    )


def _areas(runs: Runs) -> str:
    areas = {row: runs.areas(row) for row in runs.plain()}
    kinds = list(next(iter(areas.values())))
    if not kinds:
        return ""
    lines = [[markdown_text(row), *(f"{values[kind]:.1f}" for kind in kinds)] for row, values in areas.items()]
    return "Area under the severity curve (mean accuracy from clean to level 5), %:\n\n" + table(["row", *kinds], lines)


def _missing(name: str, runs: Runs) -> str:
    found = {percent: RESULTS / f"comparison-{name}-missing-{percent}.csv.gz" for percent in (30, 50)}
    parts = {percent: Runs(read(path)) for percent, path in found.items() if path.exists()}
    if not parts:
        return ""
    lines = []
    for row in runs.plain():
        if all(row in part.rows for part in parts.values()):
            cells = [mean_sd(100 * part.mean(row, ["clean"])) for part in parts.values()]
            lines.append([markdown_text(row), mean_sd(runs.figures(row)["clean"]), *cells])
    columns = ["row", "complete", *(f"{percent} % missing" for percent in parts)]
    return (
        "Accuracy where each modality is missing from a fraction of all rows, in training and test, with options tuned "
        "on complete rows (three runs):\n\n" + table(columns, lines)
    )


def _tuned(name: str) -> str:
    path = RESULTS / f"comparison-{name}-tuned.toml"
    if not path.exists():
        return ""
    tuned = read_toml(path)
    first = next(iter(tuned.values()))
    lines = []
    for row, entry in tuned.items():
        values = ", ".join(f"{key.partition('.')[2]} {value}" for key, value in entry["values"].items())
        figures = f"{entry['default']:.1f}", f"{entry['best']:.1f}", str(entry["trials"]), str(entry["failed"])
        lines.append([markdown_text(row), *figures, markdown_text(values)])
    return (
        f"Chosen on validation rows of division {first['division']}, by mean accuracy over "
        f"{len(first['conditions'])} conditions ({', '.join(f'`{c}`' for c in first['conditions'])}):\n\n"
        + table(["row", "default, %", "best, %", "trials", "failed", "values"], lines)
    )


def _told_apart(runs: Runs) -> Iterator[str]:
    rows = runs.plain()
    apart = runs.against(REFERENCE, rows, "held out")
    for word in ("better", "worse"):
        names = [row for row, result in apart.items() if verdict(*result) == word]
        if names:
            listed = ", ".join(f"{markdown_text(row)} ({interval(*apart[row][0][:3])})" for row in names)
            yield f"{word.capitalize()} than joint + unimodal training, held-out noise, corrected p < .05: {listed}."
    count = sum(verdict(*result) == "not told apart" for result in apart.values())
    one, many = runs.smallest(REFERENCE, rows, "held out")
    yield (
        f"{count} of {len(apart)} rows are not told apart from it. The smallest true difference that these "
        f"{len(runs.units)} runs detect with probability .8 is {one:.1f} points in one comparison, and {many:.1f} "
        f"after Holm's correction for {len(apart)}."
    )
    if "cpsc" in apart:
        difference, p_value = apart["cpsc"]
        clean = interval(*runs.difference("cpsc", REFERENCE, "clean")[:3])
        held = f"{interval(*difference[:3])} points held out (p = {p_value:.2f})"
        yield f"CPSC − joint + unimodal: {held}, {clean} clean."


def _pairs(runs: Runs) -> Iterator[str]:
    for row, base, what in (
        (f"{REFERENCE}, augmented", REFERENCE, "Augmentation by the seen kinds"),
        (f"{REFERENCE} + gate", REFERENCE, "The gate after joint + unimodal training"),
        ("cpsc + gate", "cpsc", "The gate after CPSC"),
        ("modality-dropout", REFERENCE, "Modality dropout"),
        (f"{REFERENCE}, all rows", REFERENCE, "Training on the calibration rows, too,"),
    ):
        if row in runs.rows and base in runs.rows:
            texts = [f"{interval(*runs.difference(row, base, f)[:3])} {f}" for f in ("clean", "seen", "held out")]
            yield f"{what} changes accuracy by {', '.join(texts)} (points, single intervals of 95 %)."


def bullets(lines: Iterator[str]) -> str:
    """Return lines as a list."""
    return "".join(f"- {line}\n" for line in lines)


def _design(runs: Runs) -> str:
    divisions = len(set(runs.divisions))
    tests = "redrawn in each division" if runs.overlap else "official, the same in all divisions"
    kinds = sorted({line["kind"] for line in runs.conditions if line["condition"] in runs.seen})
    held = sorted({k["kind"] for k in runs.conditions if k["condition"] not in runs.seen | {"clean"}})
    return (
        f"{len(runs.units)} runs of each row on {divisions} divisions; test rows {tests}; {len(runs.conditions)} "
        f"conditions. Seen kinds: {', '.join(kinds) or 'none'}; held out: {', '.join(held) or 'none'}.\n"
    )


def comparison() -> str:
    """Return docs/comparison.md."""
    sets = data_sets()
    parts = [
        "# Comparison of all methods\n",
        NOTE.format("comparison"),
        (ROOT / "studies/text/comparison.md").read_text(encoding="utf-8").strip() + "\n",
        "## Results\n",
        *(f"**{TITLES[name]}.**\n\n{bullets(_told_apart(runs))}{bullets(_pairs(runs))}" for name, runs in sets.items()),
    ]
    if not sets:
        parts.append("No runs yet: `python studies/comparison.py --data handwritten`.\n")
    for name, runs in sets.items():
        parts += [f"## {TITLES[name]}\n", _design(runs), _methods(runs), _inference(runs), _areas(runs)]
        parts += [_missing(name, runs), _tuned(name)]
    return "\n".join(part for part in parts if part)


def findings() -> list[Line]:
    """Return the comparisons of `findings.py`."""
    path = RESULTS / "findings.csv"
    return read(path) if path.exists() else []


def _measured(line: Line) -> str:
    low, high = float(line["low"]), float(line["high"])
    return interval(float(line["mean"]), low, high) if not np.isnan(low) else f"{float(line['mean']):+.2f}"


def results() -> str:
    """Return docs/results.md."""
    parts = ["# Results of the findings of the paper\n", NOTE.format("results")]
    parts.append((ROOT / "studies/text/results.md").read_text(encoding="utf-8").strip() + "\n")
    lines = findings()
    if not lines:
        parts.append("No runs yet: `python studies/findings.py`.\n")
    for finding, group in groupby(sorted(lines, key=lambda line: line["finding"]), lambda line: line["finding"]):
        rows = [
            [
                *(line["data"], markdown_text(line["comparison"]), line["measure"], line["claim"] or "–"),
                *(f"{_measured(line)} {line['unit']}", f"{float(line['p']):.3f}", line["runs"], line["reproduced"]),
            ]
            for line in group
        ]
        columns = ["data", "comparison", "measure", "paper", "here, 95 % interval", "p", "runs", "reproduced"]
        parts += [f"## {finding[:1].upper()}{finding[1:]}\n", table(columns, rows)]
    return "\n".join(parts)


def _reproduced() -> str:
    rows = []
    for finding, group in groupby(sorted(findings(), key=lambda one: one["finding"]), lambda one: one["finding"]):
        lines = list(group)
        counts = {word: sum(line["reproduced"] == word for line in lines) for word in ("yes", "opposite", "not shown")}
        rows.append([finding, str(len(lines)), *map(str, counts.values())])
    if not rows:
        return "No runs yet: `python studies/findings.py`.\n"
    return table(["finding", "comparisons", "reproduced", "opposite", "not shown"], rows)


def _cost_table() -> str:
    rows = [
        [line["data"], line["step"], f"{float(line['cpu_seconds']) / 60:.0f}", f"`{line['command']}`"]
        for line in costs()
    ]
    return table(["data", "step", "CPU minutes", "command"], rows) if rows else "No runs yet.\n"


def reproduces() -> str:
    """Return docs/reproduces.md."""
    sets = data_sets()
    shown = [f"**{TITLES[name]}.** {_design(runs)}\n{bullets(_told_apart(runs))}" for name, runs in sets.items()]
    return "\n".join(
        [
            "# What reproduces\n",
            NOTE.format("reproduces"),
            (ROOT / "studies/text/reproduces.md").read_text(encoding="utf-8").strip() + "\n",
            "## Findings of the paper\n",
            "Number of comparisons by outcome; [](results.md) has each with its interval.\n",
            _reproduced(),
            "## Methods\n",
            *(shown or ["No runs yet.\n"]),
            "## Commands and cost\n",
            _cost_table(),
        ]
    )


def readme() -> str:
    """Return README.md with its results replaced."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{_summary()}\n{MARKS[1]}{after}"


def _summary() -> str:
    parts = []
    for name, runs in data_sets().items():
        chosen = [row for row in README_ROWS if row in runs.rows]
        columns = ("clean", "seen", "held out", "coverage")
        apart = {row: runs.difference(row, REFERENCE, "held out") for row in chosen if row != REFERENCE}
        rows = [
            [row, *(mean_sd(runs.figures(row)[c]) for c in columns), signed(apart[row]) if row in apart else "–"]
            for row in chosen
        ]
        title = f"{TITLES[name]}: {_design(runs)}"
        parts.append(title + "\n" + table(["row", *columns, "difference, held out"], rows))
        parts.append(bullets(_told_apart(runs)))
    text = "\n".join(parts) if parts else "No runs yet.\n"
    return (
        text
        + "\nAll rows: [comparison](docs/comparison.md). What reproduces, at which cost: [page](docs/reproduces.md).\n"
    )


PAGES: dict[str, tuple[Path, Callable[[], str]]] = {
    "comparison": (ROOT / "docs/comparison.md", comparison),
    "results": (ROOT / "docs/results.md", results),
    "reproduces": (ROOT / "docs/reproduces.md", reproduces),
    "readme": (ROOT / "README.md", readme),
}
"""By name, the file and the function that returns its text."""


def main() -> None:
    names = sys.argv[1:]
    if not names or not set(names) <= {*PAGES, "all"}:
        sys.exit(f"usage: python studies/pages.py {' | '.join([*PAGES, 'all'])}")
    for name in PAGES if "all" in names else names:
        path, page = PAGES[name]
        path.write_text(page(), encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
