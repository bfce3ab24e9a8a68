"""Many methods on the same seeds: means, differences with corrected tests, ranks, and what each costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import unknown
from cpsc_train.errors import UserError
from cpsc_train.experiments.grid import Grid, Results
from cpsc_train.experiments.statistics import critical_difference, holm, mean_ranks, paired_difference, paired_p_value
from cpsc_train.experiments.suites import Suite, reported
from cpsc_train.runs.folder import RunFolder
from cpsc_train.writing import as_csv, write

LEVEL = 0.05
"""Adjusted p-value below which a difference is called one."""
PLAIN = "joint"
"""The method that cost is relative to, if it is there."""


@dataclass(frozen=True)
class Cost:
    """What a run takes.

    Parameters
    ----------
    seconds
        Of an epoch, the mean of all but the first: processor time on a CPU, else time on the clock.
    memory
        Largest memory in MiB: of tensors on an accelerator, or of the whole process on a CPU; NaN if unknown.
    """

    seconds: float
    memory: float


@dataclass(frozen=True)
class Row:
    """What is said of one method.

    Parameters
    ----------
    name
        Its name.
    values
        (seeds, K) figures in %, by column.
    difference
        Mean of method − reference in the primary column, and its 95 % interval; not of the reference itself.
    p_value
        Of that difference, adjusted for the number of methods; NaN of the reference, and of one seed.
    rank
        Mean rank over seeds in the primary column, 1 being best.
    cost
        Seconds and memory over those of joint training, the means over seeds.
    reported
        What the source reports of it on this data set.
    """

    name: str
    values: NDArray[np.float64]
    difference: tuple[float, float, float] | None
    p_value: float
    rank: float
    cost: Cost
    reported: str

    @property
    def differs(self) -> bool:
        """Whether the difference to the reference holds after the correction."""
        return self.p_value < LEVEL


@dataclass(frozen=True)
class Scoreboard:
    """A table of one suite.

    Parameters
    ----------
    suite
        What is looked at.
    data
        Name of the data set, and its modalities.
    seeds
        How many.
    columns
        K names of figures.
    rows
        By mean of the primary column, the best first.
    reference
        What methods are compared with.
    plain
        What cost is relative to.
    critical
        How far mean ranks must be apart for a difference by Nemenyi's test; NaN of one seed.
    """

    suite: Suite
    data: str
    seeds: int
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    reference: str
    plain: str
    critical: float


def costs(grid: Grid, results: Results) -> dict[str, list[Cost]]:
    """Return what every run has taken, from its folder."""
    return {name: [_cost(RunFolder(grid.path(name, run["seed"]))) for run in runs] for name, runs in results.items()}


def scoreboard(
    results: Results, taken: dict[str, list[Cost]], suite: Suite, suite_name: str, *, reference: str
) -> Scoreboard:
    """Compare the methods.

    Parameters
    ----------
    results
        By method, what each seed gave.
    taken
        By method, what each seed cost.
    suite, suite_name
        What is looked at.
    reference
        The method that others are compared with.

    Raises
    ------
    UserError
        If it is none of the methods.
    """
    if reference not in results:
        raise UserError(unknown("reference", reference, list(results)))
    figures = {name: [suite.figures(run) for run in runs] for name, runs in results.items()}
    columns = tuple(next(iter(figures.values()))[0])
    values = {name: np.array([[run[c] for c in columns] for run in runs]) for name, runs in figures.items()}
    scores = np.stack([rows[:, columns.index(suite.primary)] for rows in values.values()], 1)
    seeds, names = len(scores), list(values)
    against = scores[:, names.index(reference)]
    p_values = holm(
        [float("nan") if n == reference else paired_p_value(s, against) for n, s in zip(names, scores.T, strict=True)]
    )
    plain = PLAIN if PLAIN in names else reference
    data = next(iter(results.values()))[0]["data"]
    rows = [
        Row(
            name=name,
            values=values[name],
            difference=None if name == reference else tuple(paired_difference(score, against)),  # type: ignore[arg-type]
            p_value=float(p),
            rank=float(rank),
            cost=_relative(taken[name], taken[plain]),
            reported=reported(data["name"], suite_name, name),
        )
        for name, score, p, rank in zip(names, scores.T, p_values, mean_ranks(scores), strict=True)
    ]
    primary = columns.index(suite.primary)
    critical = critical_difference(len(names), seeds) if seeds > 1 and len(names) > 1 else float("nan")
    ordered = tuple(sorted(rows, key=lambda row: -float(row.values[:, primary].mean())))
    return Scoreboard(
        suite, f"{data['name']} ({', '.join(data['modalities'])})", seeds, columns, ordered, reference, plain, critical
    )


def _cost(folder: RunFolder) -> Cost:
    records = folder.read_metrics()
    device = folder.read_config()["compute"]["device"]
    on_cpu = device == "cpu" or (device == "auto" and folder.read_environment().get("gpu") is None)
    seconds = [record["cost"]["cpu_seconds"] if on_cpu else record["seconds"] for record in records]
    peak = records[-1]["cost"]["peak_mib"]
    return Cost(float(np.mean(seconds[1:] or seconds)), float("nan") if peak is None else float(peak))


def _relative(mine: list[Cost], plain: list[Cost]) -> Cost:
    def ratio(figure: str) -> float:
        return float(np.mean([getattr(a, figure) / getattr(b, figure) for a, b in zip(mine, plain, strict=True)]))

    return Cost(ratio("seconds"), ratio("memory"))


def write_csv(board: Scoreboard, results: Results, path: Path) -> Path:
    """Write a line a run."""
    lines: list[list[object]] = [["method", "seed", *board.columns]]
    for row in board.rows:
        for run, figures in zip(results[row.name], row.values, strict=True):
            lines.append([row.name, run["seed"], *(f"{value:.6g}" for value in figures)])
    write(path, as_csv(lines))
    return path
