"""What several runs say together: mean ± standard deviation over seeds, and paired differences to the first variant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from cpsc_train.experiments.grid import Results
from cpsc_train.experiments.markup import markdown_table
from cpsc_train.experiments.statistics import paired_difference
from cpsc_train.models import FUSED
from cpsc_train.writing import as_csv, write

OVERALL = "all"
"""The column of the mean over clean and noisy conditions; conditions with a missing modality are not in it."""
BESIDE = 3
"""Variants that stand beside one another on a terminal."""


@dataclass(frozen=True)
class Summary:
    """Figures of one part of the data.

    Parameters
    ----------
    columns
        K column names.
    values
        By variant, (seeds, K): accuracies in %, then the coverage of the fused head in %, and seconds.
    """

    columns: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]

    def difference(self, variant: str, column: str = OVERALL) -> tuple[float, float, float]:
        """Return the mean paired difference to the first variant, and its 95 % interval."""
        first = next(iter(self.values))
        place = self.columns.index(column)
        found = paired_difference(self.values[variant][:, place], self.values[first][:, place])
        return float(found[0]), float(found[1]), float(found[2])


def summarise(results: Results, part: str) -> Summary:
    """Collect accuracies of ``validation``, where options are chosen, or ``test``, where the choice is reported."""
    first = next(iter(results.values()))[0]
    heads = [*first["data"]["modalities"], FUSED]
    pairs = [(name, head) for name in first[part] for head in (heads if name == "clean" else [FUSED])]
    columns = [f"{name} {head}" if name == "clean" else name for name, head in pairs]
    overall = [i for i, (name, head) in enumerate(pairs) if head == FUSED and not name.startswith("without-")]

    def row(run: dict[str, Any]) -> list[float]:
        accuracy = [100 * run[part][name]["accuracy"][head] for name, head in pairs]
        coverage = 100 * run["coverage"][part][FUSED]["coverage"]
        return [*accuracy, float(np.mean([accuracy[i] for i in overall])), coverage, run["seconds"]]

    values = {variant: np.array([row(run) for run in runs]) for variant, runs in results.items()}
    return Summary((*columns, OVERALL, "coverage", "seconds"), values)


def console_table(results: Results) -> Table:
    """Return a table for a terminal: test accuracy, a row a condition or, of more than `BESIDE` variants, a row each.

    The rows of many variants hold the figures that they are compared by; all others are in the files.
    """
    summary = summarise(results, "test")
    difference = f"{OVERALL}, difference"
    seeds = len(next(iter(summary.values.values())))
    table = Table(title=f"Test, %, mean ± sd of {seeds} runs; difference with 95 % interval", title_justify="left")
    rows = _rows(summary)
    if len(rows) > BESIDE:
        shown = ["clean " + FUSED, OVERALL, difference, "coverage", "seconds"]
        table.add_column("variant")
        for name in shown:
            table.add_column(name, justify="right")
        for variant, cells in rows:
            table.add_row(variant, *(cells[name] for name in shown))
        return table
    table.add_column("condition")
    for variant, _ in rows:
        table.add_column(variant, justify="right")
    for name in (*summary.columns, *([difference] if len(rows) > 1 else [])):
        table.add_row(name, *(cells[name] for _, cells in rows))
    return table


def write_tables(results: Results, folder: Path) -> list[Path]:
    """Write ``table.md`` (validation and test) and ``table.csv`` (every run), and return their paths."""
    markdown, table = folder / "table.md", folder / "table.csv"
    texts = []
    for part in ("validation", "test"):
        summary = summarise(results, part)
        names = [part, *summary.columns, f"{OVERALL}, difference"]
        texts.append(markdown_table(names, [[variant, *cells.values()] for variant, cells in _rows(summary)]))
    write(markdown, "\n\n".join(texts) + "\n")
    lines: list[list[object]] = [["part", "variant", "seed", *summary.columns]]
    for part in ("validation", "test"):
        for variant, rows in summarise(results, part).values.items():
            for run, row in zip(results[variant], rows, strict=True):
                lines.append([part, variant, run["seed"], *(f"{value:.6g}" for value in row)])
    write(table, as_csv(lines))
    return [markdown, table]


def _rows(summary: Summary) -> list[tuple[str, dict[str, str]]]:
    rows = []
    first = next(iter(summary.values))
    for variant, values in summary.values.items():
        cells = {name: mean_sd(values[:, i]) for i, name in enumerate(summary.columns)}
        cells["seconds"] = f"{np.median(values[:, -1]):.0f}"
        mean, low, high = summary.difference(variant)
        if variant == first:
            cells[f"{OVERALL}, difference"] = "–"
        elif np.isnan(low):
            cells[f"{OVERALL}, difference"] = f"{mean:+.1f}"
        else:
            cells[f"{OVERALL}, difference"] = f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
        rows.append((variant, cells))
    return rows


def mean_sd(values: NDArray[np.float64]) -> str:
    """Return the mean and the sample standard deviation, with n − 1 in its denominator; the value alone where n is 1.

    Examples
    --------
    >>> mean_sd(np.array([1.0, 3.0])), mean_sd(np.array([1.0]))
    ('2.0 ± 1.4', '1.0')
    """
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
