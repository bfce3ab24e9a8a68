"""The tables of experiments: one set of cells, for a terminal, as Markdown and as CSV; means over seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import rich.table
from numpy.typing import NDArray

from cpsc_train.experiments.grid import Results
from cpsc_train.experiments.statistics import Difference, paired_difference
from cpsc_train.models import FUSED
from cpsc_train.printable import visible
from cpsc_train.writing import as_csv, write

_MARKUP = re.compile(r"([\\`*_\[\]|$~])")


@dataclass(frozen=True)
class Table:
    """A table of text; the first cell of a row is its name."""

    title: str
    """Title on a terminal."""
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def console(self, columns: Sequence[str] | None = None) -> rich.table.Table:
        """Return the table for a terminal, or some of its columns."""
        places = [self.header.index(name) for name in columns or self.header]
        table = rich.table.Table(title=self.title, title_justify="left")
        for place in places:
            table.add_column(self.header[place], justify="right" if place else "left")
        for row in self.rows:
            table.add_row(*(row[place] for place in places))
        return table

    def transposed(self) -> Table:
        """Return the table with a row for each column."""
        header, *rows = zip(self.header, *self.rows, strict=True)
        return Table(self.title, header, rows)

    def markdown(self) -> str:
        r"""Return the table in Markdown, without its title; text is shown as it is, and is never markup.

        Examples
        --------
        >>> Table("", ["a", "b"], [["x|y", "<1>"]]).markdown()
        '| a | b |\n| --- | --- |\n| x\\|y | &lt;1&gt; |\n'
        """
        lines = [[markdown_text(cell) for cell in self.header], ["---"] * len(self.header)]
        lines += [[markdown_text(cell) for cell in row] for row in self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown_text(text: str) -> str:
    r"""Return text of one line as Markdown that shows it, also within a table.

    Examples
    --------
    >>> markdown_text("a|b <i> top_k")
    'a\\|b &lt;i&gt; top\\_k'
    """
    return _MARKUP.sub(r"\\\1", escape(visible(text, line=True), quote=False))


def mean_sd(values: NDArray[np.float64]) -> str:
    """Return the mean and the sample standard deviation, with n − 1 in its denominator; the value alone if n is 1.

    A dash stands for values that are not all known (NaN).

    Examples
    --------
    >>> mean_sd(np.array([1.0, 3.0])), mean_sd(np.array([1.0]))
    ('2.0 ± 1.4', '1.0')
    """
    if np.isnan(values).any():
        return "–"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def interval(mean: float, low: float, high: float) -> str:
    """Return a difference and its interval; the difference alone if the ends are NaN.

    Examples
    --------
    >>> interval(1.0, -0.5, 2.5)
    '+1.0 (-0.5 to +2.5)'
    """
    return f"{mean:+.1f}" if np.isnan(low) else f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


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
