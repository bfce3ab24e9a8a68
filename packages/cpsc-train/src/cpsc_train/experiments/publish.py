"""A scoreboard as Markdown, LaTeX, HTML, and for a terminal: one set of cells, four ways to set them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from cpsc_train.experiments.markup import latex_text, markdown_table, markdown_text
from cpsc_train.experiments.scoreboard import LEVEL, Row, Scoreboard
from cpsc_train.experiments.tables import mean_sd
from cpsc_train.reporting.report.page import document, escape, figure, table
from cpsc_train.reporting.report.panel import THEMES, Panel, require_matplotlib, sides
from cpsc_train.writing import write as write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARK = "*"
"""Stands behind a difference that holds after the correction."""


@dataclass(frozen=True)
class Cells:
    """A table of text.

    Parameters
    ----------
    header, rows
        Of as many cells each.
    """

    header: list[str]
    rows: list[list[str]]


def cells(board: Scoreboard) -> Cells:
    """Return everything that is said of every method."""
    header = ["method", *board.columns, f"{board.suite.primary}, difference", "p", "rank", "time", "memory"]
    told = any(row.reported for row in board.rows)
    rows = [[*_row(board, row), *([row.reported or "–"] if told else [])] for row in board.rows]
    return Cells([*header, *(["reported"] if told else [])], rows)


def caption(board: Scoreboard) -> str:
    """Return what a reader has to know."""
    seeds = f"{board.seeds} seeds" if board.seeds > 1 else "one seed"
    text = (
        f"{board.suite.title}, {board.data}, {seeds}; %, mean ± sd. "
        f"Difference: method − {board.reference} in “{board.suite.primary}”, paired by seed, with its 95 % interval; "
        f"p: of Student's paired t-test, adjusted by Holm's method for {len(board.rows) - 1} comparisons, {MARK} below "
        f"{LEVEL}. Rank: mean over seeds. Time an epoch and largest memory: over those of {board.plain}."
    )
    if any(row.reported for row in board.rows):
        text += " Reported: what the source has, from another harness."
    return text


def ranks_caption(board: Scoreboard) -> str:
    """Return how the picture of ranks is read."""
    if np.isnan(board.critical):
        return "Mean rank by seed; one seed allows no test."
    return (
        f"Mean rank over {board.seeds} seeds in “{board.suite.primary}”, 1 is best. The band is Nemenyi's critical "
        f"difference of {board.critical:.1f} ranks from the best: methods inside it are not told apart from it."
    )


def markdown(board: Scoreboard) -> str:
    """Return a table."""
    found = cells(board)
    return f"{markdown_text(caption(board))}\n\n{markdown_table(found.header, found.rows)}\n"


def latex(board: Scoreboard) -> str:
    """Return a ``table`` for a document that loads ``booktabs``; the largest mean of each column is bold."""
    found = cells(board)
    best = {place + 1: int(np.argmax(means)) for place, means in enumerate(_means(board).T)}
    lines = []
    for place, row in enumerate(found.rows):
        shown = [latex_text(cell) for cell in row]
        shown = [
            rf"\textbf{{{c}}}" if best.get(i) == place and _higher(found.header[i]) else c for i, c in enumerate(shown)
        ]
        lines.append(" & ".join(shown) + r" \\")
    header = " & ".join(map(latex_text, found.header)) + r" \\"
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex_text(caption(board))}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(found.header) - 1)}}}",
            r"    \toprule",
            f"    {header}",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def html(boards: Sequence[Scoreboard]) -> str:
    """Return a page with every table and its picture of ranks.

    Raises
    ------
    UserError
        If matplotlib is not installed.
    """
    require_matplotlib()
    parts = [f"<h1>{escape(f'Benchmark on {boards[0].data}')}</h1>"]
    for board in boards:
        found, panel = cells(board), ranks_panel(board)
        pictures = {(panel.name, theme): panel.render(theme) for theme in THEMES}
        parts.append(f"<h2>{escape(board.suite.title)}</h2>")
        parts.append(f'<p class="soft">{escape(caption(board))}</p>')
        parts.append(f'<div class="figures">{table(found.header, found.rows)}</div>')
        parts.append(f'<p class="soft">{escape(ranks_caption(board))}</p>')
        parts.append(f'<div class="pictures">{figure(panel, pictures)}</div>')
    return document(f"Benchmark on {boards[0].data}", "".join(parts))


def ranks_panel(board: Scoreboard) -> Panel:
    """Return the picture of mean ranks, with the critical difference as a bar from the best."""

    def draw(axes: Axes) -> None:
        rows = sorted(board.rows, key=lambda row: row.rank)
        places = np.arange(len(rows))
        with sides(axes, x="mean rank", y=""):
            axes.plot([row.rank for row in rows], places, "o", color="#0072b2", markersize=4)
            if not np.isnan(board.critical):
                axes.axvspan(rows[0].rank, rows[0].rank + board.critical, color="#0072b2", alpha=0.12)
            axes.set_yticks(places, [row.name for row in rows], fontsize=6)
            axes.invert_yaxis()

    return Panel("ranks", f"Mean rank, {board.suite.primary}, {board.data}", draw)


def console_table(board: Scoreboard) -> Table:
    """Return what one looks at first; the rest is in the files."""
    found = cells(board)
    primary = board.suite.primary
    shown = ["method", primary, f"{primary}, difference", "p", "rank", "ECE", "time"]
    places = [found.header.index(name) for name in shown]
    result = Table(title=f"{board.suite.title} · {board.data} · {board.seeds} seeds, %", title_justify="left")
    for name in shown:
        result.add_column(name.rpartition(", ")[2], justify="left" if name == "method" else "right")
    for row in found.rows:
        result.add_row(*(row[place] for place in places))
    return result


def write(boards: dict[str, Scoreboard], folder: Path) -> list[Path]:
    """Write ``NAME.md`` and ``NAME.tex`` of every suite and one ``benchmark.html``; return the paths."""
    written = []
    for name, board in boards.items():
        for ending, text in (("md", markdown(board)), ("tex", latex(board))):
            path = folder / f"{name}.{ending}"
            write_file(path, text)
            written.append(path)
    page = folder / "benchmark.html"
    write_file(page, html(list(boards.values())))
    return [*written, page]


def _row(board: Scoreboard, row: Row) -> list[str]:
    difference, p = "–", "–"
    if row.difference is not None:
        mean, low, high = row.difference
        difference = f"{mean:+.1f}" if np.isnan(low) else f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
    if not np.isnan(row.p_value):
        p = f"{row.p_value:.3f}{MARK if row.differs else ''}"
    memory = "–" if np.isnan(row.cost.memory) else f"{row.cost.memory:.2f}"
    shown = [mean_sd(row.values[:, place]) for place in range(len(board.columns))]
    return [row.name, *shown, difference, p, f"{row.rank:.1f}", f"{row.cost.seconds:.2f}", memory]


def _means(board: Scoreboard) -> NDArray[np.float64]:
    return np.stack([row.values.mean(0) for row in board.rows])


def _higher(column: str) -> bool:
    """Say whether a column is better the larger it is."""
    return column not in {"ECE", "coverage"} and not column.startswith("contribution")
