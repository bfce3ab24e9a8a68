"""The findings of the paper one by one: its claim, our figure with a 95 % interval, and whether it is reproduced.

    python studies/findings.py --data pix,fou mvsa-single=FILE nyu-depth-v2=FILE --seeds 0..4 --jobs 2
    python studies/findings.py --table studies/results/findings.csv         # the Markdown tables of a CSV, no runs

DATA is views of handwritten, or NAME=ROOT with a name of `_data.DATA`. Each is trained as
`cpsc ablate --axes parts,refresh,warm-up,optimizer` does: with both parts, either and neither; by refresh policy; by
warm-up; with both and neither under each optimizer.
Finished runs in the folder are reused. The CSV has a row per data set and comparison; differences are paired by seed.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from _data import DATA
from _features import reliability, separations
from _tables import header, write_csv
from numpy.typing import NDArray

from cpsc_train import RunConfig
from cpsc_train.config import apply_settings, override
from cpsc_train.experiments import Grid, parse_seeds, references, variants
from cpsc_train.experiments.executors import Local
from cpsc_train.experiments.statistics import holm, paired_difference
from cpsc_train.models import FUSED
from cpsc_train.output import Output
from cpsc_train.recipes import recipe
from cpsc_train.runs import RunFolder

AXES = ("parts", "refresh", "warm-up", "optimizer")
NEITHER, GSC, RSC, BOTH = "neither (joint + unimodal)", "GSC only", "RSC only", "full"
ABLATION: dict[tuple[str, str], str] = {  # differences of 73.10, 75.32, 76.20, 78.65; and 41.22, 41.36, 45.94, 47.40
    (GSC, NEITHER): "+2.22 (CREMA-D), +0.14 (NYU, SP@10)",
    (RSC, NEITHER): "+3.10, +4.72",
    (BOTH, NEITHER): "+5.55, +6.18",
    (BOTH, GSC): "+3.33, +6.04",
    (BOTH, RSC): "+2.45, +1.46",
}
POLICIES = ("refresh exact", "refresh interval:5", "refresh interval:20", "refresh epoch")
LEVEL = 0.05
CONSTANT = 98
"""Percentage of rows with the same reliability above which the weights of GSC count as constant."""

Values = NDArray[np.float64]
Runs = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Row:
    """A comparison on one data set."""

    data: str
    finding: str
    claim: str
    """What the paper states."""
    comparison: str
    measure: str
    unit: str
    mean: float
    low: float
    high: float
    p: float
    """Of the paired t-test, adjusted by Holm's method over the rows of the data set."""
    runs: int
    reproduced: str
    """``not shown`` if the adjusted p is at least .05, else ``yes`` or ``opposite`` by the sign that the paper claims.

    Weights of GSC have no p; there, ``not shown`` means that the interval contains the limit.
    """


def workload(text: str, epochs: int) -> tuple[str, RunConfig]:
    """Return the name and the configuration of a data set, with noise on each modality."""
    name, _, root = text.partition("=")
    if root:
        data = DATA[name]
        base = recipe(data.options[1], epochs=data.epochs)
        base = apply_settings(base, [f"data.root={root}", "noise=[]", f"protocols={data.protocols()}", *data.settings])
    else:
        base = recipe("handwritten", modalities=tuple(name.split(",")), epochs=epochs)
    return name, replace(override(base, {"method.parts": "both"}), leave_out=False, inference=())


def of_accuracy(measure: str) -> Callable[[dict[str, Any]], float]:
    """Return the function from a run to its fused test accuracy in %, ``clean`` or the mean over ``all`` conditions."""

    def figure(run: dict[str, Any]) -> float:
        accuracy = {name: 100 * of["accuracy"][FUSED] for name, of in run["test"].items()}
        return accuracy["clean"] if measure == "clean" else float(np.mean(list(accuracy.values())))

    return figure


class Findings:
    """All comparisons on one data set."""

    def __init__(self, data: str, runs: Runs, pairs: Mapping[str, str]) -> None:
        self.data = data
        self.runs = runs
        self.pairs = pairs
        self.modalities: list[str] = runs[BOTH][0]["data"]["modalities"]

    def rows(self) -> list[Row]:
        """Return all rows, with p-values adjusted for their number."""
        found = [
            *self.ablation(),
            *self.optimizers(),
            *self.refresh(),
            *self.warmup(),
            *self.shift(),
            *self.separation(),
        ]
        adjusted = holm([row.p for row in found])
        return [_judged(replace(row, p=float(p))) for row, p in zip(found, adjusted, strict=True)]

    def ablation(self) -> list[Row]:
        return [
            self._difference("ablation", f"points: {claim}", better, worse, measure)
            for (better, worse), claim in ABLATION.items()
            for measure in ("clean", "all")
        ]

    def optimizers(self) -> list[Row]:
        found = []
        for better, worse in self.pairs.items():
            name = "Adam" if better == BOTH else better
            claim = "not in the paper" if name == "AdamW" else "the gain holds for SGD, Adam and Adagrad"
            found += [self._difference(f"optimizer {name}", claim, better, worse, m) for m in ("clean", "all")]
        return found

    def refresh(self) -> list[Row]:
        """Return the fitted loss over the logarithm of the interval, and the difference of the ends."""
        per_epoch = self.runs[BOTH][0]["steps"]["per_epoch"]
        x = np.log2([1, 5, 20, per_epoch])
        claim = "longer intervals degrade accuracy monotonically"
        found = []
        for measure in ("clean", "all"):
            y = np.array([self._values(policy, of_accuracy(measure)) for policy in POLICIES])
            slope = (x - x.mean()) @ y / np.square(x - x.mean()).sum()
            text = "fitted loss from an interval of 1 step to 1 epoch"
            found.append(self._row("refresh", claim, text, measure, -slope * (x[-1] - x[0])))
        return [*found, self._difference("refresh", claim, POLICIES[0], POLICIES[-1], "all")]

    def warmup(self) -> list[Row]:
        claim = "warm-up is essential"
        return [self._difference("warm-up", claim, BOTH, "warm-up 1", measure) for measure in ("clean", "all")]

    def shift(self) -> list[Row]:
        """Return by modality how reliability rises in training, and for how many rows it is 1 in the end."""
        found = []
        for m in self.modalities:
            early, late = (self._reliability(m, "mean", place) for place in (0, -1))
            claim = "reliability concentrates toward high values"
            text = f"{m}: last − first epoch after warm-up"
            found.append(self._row("reliability shift", claim, text, "mean ρ, %", 100 * (late - early)))
            ones = 100 * self._reliability(m, "at_one", -1)
            claim = f"GSC weights rows by ρ: ρ = 1 in at most {CONSTANT} % of them"
            row = self._row("weights of GSC", claim, f"{m}, last epoch", "rows with ρ = 1", ones, unit="%")
            verdict = "yes" if row.high < CONSTANT else "opposite" if row.low > CONSTANT else "not shown"
            found.append(replace(row, reproduced=verdict, p=float("nan")))
        return found

    def separation(self) -> list[Row]:
        claim = "t-SNE: classes are tighter and further apart"
        found = []
        for head in (*self.modalities, FUSED):
            for name, sign in (("silhouette", 1), ("scatter", -1)):
                both, neither = (
                    self._values(variant, lambda run, name=name: run["separation"][head][name])  # noqa: B023
                    for variant in (BOTH, NEITHER)
                )
                text = f"{head}: " + ("both − neither" if sign > 0 else "neither − both")
                found.append(self._row("separation", claim, text, f"{name} × 100", 100 * sign * (both - neither)))
        return found

    def shift_table(self) -> list[list[str]]:
        """Return rows of reliability early and late, by modality."""
        lines = []
        for m in self.modalities:
            for when, place in (("first epoch after warm-up", 0), ("last epoch", -1)):
                mean, sd, one, zero = (
                    self._reliability(m, name, place).mean() for name in ("mean", "sd", "at_one", "at_zero")
                )
                cells = [f"{mean:.3f}", f"{sd:.3f}", f"{100 * one:.1f}", f"{100 * zero:.1f}"]
                lines.append([self.data, m, when, *cells])
        return lines

    def _values(self, variant: str, figure: Callable[[dict[str, Any]], float]) -> Values:
        return np.array([figure(run) for run in self.runs[variant]], dtype=float)

    def _reliability(self, modality: str, name: str, place: int) -> Values:
        return self._values(BOTH, lambda run: run["reliability"][modality][name][place])

    def _difference(self, finding: str, claim: str, better: str, worse: str, measure: str) -> Row:
        figure = of_accuracy(measure)
        values = self._values(better, figure) - self._values(worse, figure)
        return self._row(finding, claim, f"{_named(better)} − {_named(worse)}", measure, values)

    def _row(self, finding: str, claim: str, text: str, measure: str, values: Values, *, unit: str = "points") -> Row:
        """Return the row of differences (seeds,) that the claim expects to be positive."""
        values = values.round(9)  # differences that are zero up to rounding
        mean, low, high, p = paired_difference(values, np.zeros_like(values))
        return Row(self.data, finding, claim, text, measure, unit, mean, low, high, p, len(values), "")


def read(path: Path) -> list[Row]:
    """Return the rows that `main` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    numbers = {"mean": float, "low": float, "high": float, "p": float, "runs": int}
    return [Row(**{name: numbers.get(name, str)(value) for name, value in line.items()}) for line in lines]


def markdown(rows: Sequence[Row]) -> str:
    """Return a table per data set: finding, claim, our figure with its interval, reproduced or not."""
    parts = []
    for data, of in groupby(rows, key=lambda row: row.data):
        lines = [
            header("finding", "the paper", "comparison", "measure", "ours (95 % interval)", "p, Holm", "reproduced")
        ]
        for row in of:
            sign = "+" if row.unit == "points" else ""
            mean, low, high = (f"{value:{sign}.2f}" for value in (row.mean, row.low, row.high))
            ours = f"{mean} ({low} to {high}) {row.unit}"
            p = "–" if np.isnan(row.p) else f"{row.p:.2g}"
            cells = [row.finding, row.claim, row.comparison, row.measure, ours, p, row.reproduced]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append(f"**{data}**\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["pix,fou"], help="views of handwritten, or NAME=ROOT")
    parser.add_argument("--epochs", type=int, default=20, help="of handwritten; other data have their own")
    parser.add_argument("--seeds", default="0..4")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/findings"), help="folder of the runs, and of findings.csv"
    )
    parser.add_argument("--table", type=Path, metavar="CSV", help="only print the tables of this file")
    options = parser.parse_args()
    if options.table:
        print(markdown(read(options.table)))
        return
    console, rows, shifts = Output(file=sys.stderr), [], []
    for text in options.data:
        name, base = workload(text, options.epochs)
        configs = variants(base, AXES)
        grid = Grid(options.out / name.replace(",", "-"), configs, parse_seeds(options.seeds))
        runs = grid.run(executor=Local(jobs=options.jobs), console=console)
        for variant, run in ((variant, run) for variant, of in runs.items() for run in of):
            folder = RunFolder(grid.path(variant, run["seed"]))
            run |= {"separation": separations(folder), "reliability": reliability(folder)}
        findings = Findings(name, runs, references(base, AXES, configs))
        rows += findings.rows()
        shifts += findings.shift_table()
    names = [field.name for field in fields(Row)]
    write_csv(options.out / "findings.csv", names, [[_text(value) for value in asdict(row).values()] for row in rows])
    columns = ("data", "modality", "reliability of training rows", "mean", "sd", "ρ = 1, %", "ρ = 0, %")
    write_csv(options.out / "reliability.csv", columns, shifts)
    print(markdown(rows))
    print("\n".join([header(*columns), *(f"| {' | '.join(cells)} |" for cells in shifts)]))


def _judged(row: Row) -> Row:
    """Return the row with its outcome by the adjusted p, unless it has one."""
    verdict = "not shown" if row.p >= LEVEL else "yes" if row.mean > 0 else "opposite"
    return row if row.reproduced else replace(row, reproduced=verdict)


def _named(variant: str) -> str:
    return {BOTH: "both", NEITHER: "neither"}.get(variant, variant)


def _text(value: object) -> object:
    return f"{value:.5g}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
