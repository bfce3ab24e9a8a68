"""The tables of experiments: one set of cells, for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import rich.table
from numpy.typing import NDArray

from cpsc_train.printable import visible

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
