"""Summary of runs of several variants: mean ± standard deviation over seeds, and differences to the first variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.experiments.grid import Results
from cpsc_train.experiments.statistics import Difference, paired_difference
from cpsc_train.experiments.table import Table, interval, mean_sd
from cpsc_train.models import FUSED
from cpsc_train.writing import as_csv, write

if TYPE_CHECKING:
    import rich.table

OVERALL = "all"
"""The column of the mean over clean and noisy conditions, without those where a modality is missing."""
DIFFERENCE = f"{OVERALL}, difference"
COMPARED = "to"
NONE: Mapping[str, str] = MappingProxyType({})
BESIDE = 3
"""Variants that are columns on a terminal; more of them are rows."""


@dataclass(frozen=True)
class Summary:
    """Figures of one part of the data."""

    part: str
    """``validation``, where options are chosen, or ``test``, where the choice is reported."""
    columns: tuple[str, ...]
    """K column names."""
    values: dict[str, NDArray[np.float64]]
    """By variant, (seeds, K): accuracies in %, then the coverage of the fused head in %, and seconds."""
    references: Mapping[str, str] = field(default_factory=dict)
    """By variant, the one that it is compared with; the first where none is given."""

    def reference(self, variant: str) -> str:
        """Return the variant that another is compared with; the first one, unless it has a reference, is its own."""
        return self.references.get(variant, next(iter(self.values)))

    def difference(self, variant: str) -> Difference:
        """Return the paired difference of the overall accuracy to the variant's reference."""
        place = self.columns.index(OVERALL)
        return paired_difference(self.values[variant][:, place], self.values[self.reference(variant)][:, place])

    def table(self) -> Table:
        """Return the table of all figures, a row for each variant."""
        rows: list[list[str]] = []
        for variant, values in self.values.items():
            means = [mean_sd(column) for column in values.T[:-1]]
            reference = self.reference(variant)
            difference = "–" if reference == variant else interval(*self.difference(variant)[:3])
            compared = ["–" if reference == variant else reference] * bool(self.references)
            rows.append([variant, *means, f"{np.median(values[:, -1]):.0f}", difference, *compared])
        seeds = len(next(iter(self.values.values())))
        title = f"{self.part.capitalize()}, %, mean ± sd of {seeds} runs; difference with 95 % interval"
        return Table(title, [self.part, *self.columns, DIFFERENCE, *[COMPARED] * bool(self.references)], rows)


def summarise(results: Results, part: str, references: Mapping[str, str] = NONE) -> Summary:
    """Collect the figures of ``validation`` or ``test`` rows; `references` are those of `Summary`."""
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
    return Summary(part, (*columns, OVERALL, "coverage", "seconds"), values, references)


def console_table(results: Results, references: Mapping[str, str] = NONE) -> rich.table.Table:
    """Return the figures of test rows for a terminal.

    Up to `BESIDE` variants are columns; of more, each is a row with the figures to compare it by.
    """
    table = summarise(results, "test", references).table()
    if len(results) > BESIDE:
        compared = [COMPARED] * bool(references)
        return table.console(["test", f"clean {FUSED}", OVERALL, DIFFERENCE, *compared, "coverage", "seconds"])
    return table.transposed().console()


def write_tables(results: Results, folder: Path, references: Mapping[str, str] = NONE) -> list[Path]:
    """Write ``table.md`` (validation and test) and ``table.csv`` (every run), and return their paths."""
    summaries = [summarise(results, part, references) for part in ("validation", "test")]
    markdown, table = folder / "table.md", folder / "table.csv"
    write(markdown, "\n".join(summary.table().markdown() for summary in summaries))
    lines: list[list[object]] = [["part", "variant", "seed", *summaries[0].columns]]
    for summary in summaries:
        for variant, rows in summary.values.items():
            for run, row in zip(results[variant], rows, strict=True):
                lines.append([summary.part, variant, run["seed"], *(f"{value:.6g}" for value in row)])
    write(table, as_csv(lines))
    return [markdown, table]
