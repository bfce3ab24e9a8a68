"""Tables of the page on reliability in training, from the CSV files of `reliability.py` and `selection.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _runs import Line, read
from _tables import header

from cpsc_train.experiments.statistics import paired_difference
from cpsc_train.experiments.table import interval, mean_sd

BENCHES = {
    "clean": "handwritten, clean rows",
    "mismatched": "handwritten, `fou` of 20 % of the rows is of another class",
    "noisy": "handwritten, noise on `fou` of 30 % of the rows",
    "mvsa-merge": "MVSA-Single, merge protocol",
}
PLAIN = "none"


def tables(results: Path) -> str:
    """Return the three tables, each with its heading."""
    found = {name: results / f"reliability-{name}.csv" for name in BENCHES}
    present = {name: path for name, path in found.items() if path.exists()}
    parts = ["## Separation of right and wrong rows\n", _separation(results, list(present))]
    parts.append("## Accuracy by weights\n")
    parts += [f"{BENCHES[name]}:\n\n{_accuracy(read(path))}" for name, path in present.items()]
    selection = results / "reliability-selection.csv"
    if selection.exists():
        parts += ["## Selection of components\n", _selection(read(selection))]
    return "\n".join(parts)


def _separation(results: Path, names: list[str]) -> str:
    lines = []
    for name in names:
        rows = read(results / f"reliability-{name}-rows.csv")
        for kind, m in dict.fromkeys((row["reliability"], row["modality"]) for row in rows):
            values = [row for row in rows if (row["reliability"], row["modality"]) == (kind, m)]
            mean, sd, one, zero, auroc = (
                float(np.mean([float(row[column]) for row in values]))
                for column in ("mean", "sd", "one", "zero", "auroc")
            )
            area = "–" if np.isnan(auroc) else f"{auroc:.3f}"
            figures = [f"{mean:.2f}", f"{sd:.2f}", f"{100 * one:.0f}", f"{100 * zero:.0f}", area]
            lines.append([BENCHES[name].replace(", ", ": ", 1), kind, m, *figures])
    return _table(["rows", "reliability", "modality", "mean", "sd", "at 1, %", "at 0, %", "AUROC"], lines)


def _accuracy(rows: list[Line]) -> str:
    modalities = list(rows[0])[5:]
    by_kind = {
        kind: [row for row in rows if row["weights"] == kind] for kind in dict.fromkeys(r["weights"] for r in rows)
    }
    seeds = [row["seed"] for row in by_kind[PLAIN]]
    overlap = float(rows[0]["overlap"])
    divisions = seeds if overlap else None

    def cells(kind: str) -> Iterator[str]:
        for column in ("clean", "noisy", *modalities):
            values, plain = (np.array([float(row[column]) for row in by_kind[k]]) for k in (kind, PLAIN))
            yield mean_sd(values)
            if column in modalities:
                continue
            difference = paired_difference(values, plain, divisions=divisions, overlap=overlap)
            text = interval(*difference[:3])
            decided = difference.low > 0 or difference.high < 0
            yield "–" if kind == PLAIN else f"**{text}**" if decided else text

    columns = ["weights", "clean, %", "difference", "noisy, %", "difference", *(f"{m} alone, %" for m in modalities)]
    return _table(columns, [[kind, *cells(kind)] for kind in by_kind])


def _selection(rows: list[Line]) -> str:
    keys = dict.fromkeys((row["part"], row["measure"]) for row in rows)
    trained = list(dict.fromkeys(row["trained with"] for row in rows))
    lines = []
    for key in keys:
        of = {
            label: np.array(
                [
                    float(row["value"])
                    for row in rows
                    if (row["part"], row["measure"]) == key and row["trained with"] == label
                ]
            )
            for label in trained
        }
        difference = paired_difference(of["others"], of["given"])
        lines.append([*key, *(mean_sd(of[label]) for label in trained), interval(*difference[:3])])
    return _table(["rows", "measure, %", *(f"label: {one}" for one in trained), "difference"], lines)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join([header(*columns), *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
