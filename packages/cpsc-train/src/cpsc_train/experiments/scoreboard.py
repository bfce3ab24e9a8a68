"""Many methods on the same seeds: means, differences with corrected tests, ranks, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import unknown
from cpsc_train.errors import UserError
from cpsc_train.experiments.grid import Grid, Results
from cpsc_train.experiments.statistics import (
    Difference,
    critical_difference,
    holm,
    mean_ranks,
    paired_difference,
    smallest_difference,
    unit_differences,
)
from cpsc_train.experiments.suites import Suite, reported
from cpsc_train.experiments.table import Table, interval, markdown_text, mean_sd
from cpsc_train.experiments.variants import OWN
from cpsc_train.runs.folder import RunFolder
from cpsc_train.writing import as_csv, write

if TYPE_CHECKING:
    import rich.table

LEVEL = 0.05
"""Adjusted p-value below which a difference is marked."""
MARK = "*"
PLAIN = "joint"
"""The method that cost is relative to, if it takes part."""


@dataclass(frozen=True)
class Cost:
    """Cost of a run."""

    seconds: float
    """Of an epoch, the mean of all but the first: processor time on a CPU, else time on the clock."""
    memory: float
    """Largest memory in MiB: of tensors on an accelerator, or of the whole process on a CPU; NaN if unknown."""


@dataclass(frozen=True)
class Row:
    """Results of one method."""

    name: str
    values: NDArray[np.float64]
    """(seeds, K) figures in %, by column."""
    difference: Difference | None
    """Method − reference in the primary column; None for the reference itself."""
    p_value: float
    """Of that difference, adjusted for the number of methods; NaN for the reference, and with one seed."""
    rank: float
    """Mean rank over seeds in the primary column, 1 being best."""
    cost: Cost
    """Seconds and memory over those of joint training, the means over seeds."""
    reported: str
    """Figures of the source on this data set, as text."""


@dataclass(frozen=True)
class Scoreboard:
    """The methods of a benchmark in one suite."""

    suite: Suite
    data: str
    """Name of the data set, and its modalities."""
    runs: int
    """Runs of each method."""
    divisions: int
    """Divisions of the data."""
    redrawn: bool
    """Whether every division has its own test rows."""
    columns: tuple[str, ...]
    """K names of figures."""
    rows: tuple[Row, ...]
    """By mean of the primary column, the best first."""
    reference: str
    """Method that the others are compared with."""
    plain: str
    """Method that cost is relative to."""
    critical: float
    """Smallest difference of mean ranks that Nemenyi's test detects; NaN with one seed."""
    smallest: tuple[float, float]
    """Smallest true differences, for one comparison and for all, that this many runs detect with probability .8, given
    the median spread of the observed differences; NaN with one run or division."""

    def table(self) -> Table:
        """Return all figures, a row for each method."""
        title = f"{self.suite.title} · {self.data} · {self.runs} runs, %"
        header = ["method", *self.columns, "difference", "p", "rank", "time", "memory"]
        rows = [_cells(row) for row in self.rows]
        if any(row.reported for row in self.rows):
            header.append("reported")
            rows = [[*cells, row.reported or "–"] for cells, row in zip(rows, self.rows, strict=True)]
        return Table(title, header, rows)

    def console(self) -> rich.table.Table:
        """Return the figures to compare methods by; the others are in the files."""
        return self.table().console(["method", self.suite.primary, "difference", "p", "rank", "ECE", "time"])

    def caption(self) -> str:
        """Return the explanation of the table."""
        runs = "one run" if self.runs == 1 else f"{self.runs} runs"
        text = (
            f"{self.suite.title}, {self.data}, {runs} of each method; %, mean ± sd. "
            f"Difference: method − {self.reference} in “{self.suite.primary}”, {self._pairing()}, with its 95 % "
            f"interval; p: of Student's paired t-test, adjusted by Holm's method for {len(self.rows) - 1} comparisons, "
            f"{MARK} below {LEVEL}. Rank: mean over runs. Time per epoch and peak memory: relative to {self.plain}."
        )
        if not np.isnan(self.smallest[0]):
            text += (
                " Smallest true difference that this many runs detect with probability .8: "
                f"{self.smallest[0]:.1f} points in a single comparison, {self.smallest[1]:.1f} after the correction."
            )
        if any(row.reported for row in self.rows):
            text += " Reported: figures of the source, from another harness."
        return text

    def _pairing(self) -> str:
        if self.divisions == 1:
            return "paired by seed"
        overlap = "; the variance is corrected for overlapping training rows" if self.redrawn else ""
        return f"means over {self.divisions} divisions of the data, paired{overlap}"

    def write(self, results: Results, name: str, folder: Path) -> list[Path]:
        """Write ``NAME.md`` and ``NAME.csv``, which has a line for each run; return their paths."""
        markdown, table = folder / f"{name}.md", folder / f"{name}.csv"
        write(markdown, f"{markdown_text(self.caption())}\n\n{self.table().markdown()}")
        lines: list[list[object]] = [["method", "division", "seed", *self.columns]]
        for row in self.rows:
            for run, figures in zip(results[row.name], row.values, strict=True):
                lines.append([row.name, run.get("division", 0), run["seed"], *(f"{value:.6g}" for value in figures)])
        write(table, as_csv(lines))
        return [markdown, table]


def costs(grid: Grid, results: Results) -> dict[str, list[Cost]]:
    """Return the cost of every run, from its folder."""
    return {
        name: [_cost(RunFolder(grid.path(_variant(name, run), run["seed"], run.get("division")))) for run in runs]
        for name, runs in results.items()
    }


def _variant(name: str, run: Mapping[str, Any]) -> str:
    inference = run.get("variant", OWN)
    return name if inference == OWN else name.removesuffix(f" + {inference}")


def scoreboard(
    results: Results, taken: dict[str, list[Cost]], suite: Suite, suite_name: str, *, reference: str
) -> Scoreboard:
    """Compare the methods with `reference`; raise UserError if it is none of them.

    `results` and `taken` are the results and the cost of each seed, by method.
    """
    if reference not in results:
        raise UserError(unknown("reference", reference, list(results)))
    figures = {name: [suite.figures(run) for run in runs] for name, runs in results.items()}
    columns = tuple(dict.fromkeys(column for runs in figures.values() for run in runs for column in run))
    values = {name: np.array([[run.get(c, np.nan) for c in columns] for run in runs]) for name, runs in figures.items()}
    primary = columns.index(suite.primary)
    scores = {name: rows[:, primary] for name, rows in values.items()}
    first = next(iter(results.values()))
    units = [run.get("division", 0) for run in first]
    overlap = first[0].get("overlap", 0.0)
    others = {name: score for name, score in scores.items() if name != reference}
    apart = {
        name: paired_difference(score, scores[reference], divisions=units, overlap=overlap)
        for name, score in others.items()
    }
    p_values = dict(zip(apart, holm([difference.p_value for difference in apart.values()]), strict=True))
    ranks = mean_ranks(np.stack(list(scores.values()), 1))
    plain = PLAIN if PLAIN in results else reference
    data, runs = first[0]["data"], len(first)
    rows = [
        Row(
            name=name,
            values=values[name],
            difference=apart.get(name),
            p_value=float(p_values.get(name, np.nan)),
            rank=float(rank),
            cost=_relative(taken[name], taken[plain]),
            reported=reported(data["name"], suite_name, name),
        )
        for name, rank in zip(results, ranks, strict=True)
    ]
    return Scoreboard(
        suite=suite,
        data=f"{data['name']} ({', '.join(data['modalities'])})",
        runs=runs,
        divisions=len(set(units)),
        redrawn=overlap > 0,
        columns=columns,
        rows=tuple(sorted(rows, key=lambda row: -float(row.values[:, primary].mean()))),
        reference=reference,
        plain=plain,
        critical=critical_difference(len(rows), runs) if runs > 1 and len(rows) > 1 else float("nan"),
        smallest=_smallest([unit_differences(score, scores[reference], units) for score in others.values()], overlap),
    )


def _smallest(apart: list[NDArray[np.float64]], overlap: float) -> tuple[float, float]:
    if not apart or len(apart[0]) < 2:
        return float("nan"), float("nan")
    deviation = float(np.median([differences.std(ddof=1) for differences in apart]))
    levels = (LEVEL, LEVEL / len(apart))
    one, many = (smallest_difference(deviation, len(apart[0]), overlap=overlap, level=level) for level in levels)
    return one, many


def _cells(row: Row) -> list[str]:
    means = [mean_sd(column) for column in row.values.T]
    difference = "–" if row.difference is None else interval(*row.difference[:3])
    p_value = "–" if np.isnan(row.p_value) else f"{row.p_value:.3f}{MARK if row.p_value < LEVEL else ''}"
    memory = "–" if np.isnan(row.cost.memory) else f"{row.cost.memory:.2f}"
    return [row.name, *means, difference, p_value, f"{row.rank:.1f}", f"{row.cost.seconds:.2f}", memory]


def _cost(folder: RunFolder) -> Cost:
    records = folder.read_metrics()
    device = folder.read_config()["compute"]["device"]
    on_cpu = device == "cpu" or (device == "auto" and folder.read_environment().get("gpu") is None)
    seconds = [record["cost"]["cpu_seconds"] if on_cpu else record["seconds"] for record in records]
    peak = records[-1]["cost"]["peak_mib"]
    return Cost(float(np.mean(seconds[1:] or seconds)), float("nan") if peak is None else float(peak))


def _relative(costs: list[Cost], plain: list[Cost]) -> Cost:
    def ratio(figure: str) -> float:
        return float(np.mean([getattr(a, figure) / getattr(b, figure) for a, b in zip(costs, plain, strict=True)]))

    return Cost(ratio("seconds"), ratio("memory"))
