"""A report on runs: one self-contained HTML file, and its pictures as PNG files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from cpsc_train.reporting.report import training
from cpsc_train.reporting.report.conditions import by_condition, noise
from cpsc_train.reporting.report.page import page
from cpsc_train.reporting.report.panel import THEMES, Panel, Section, require_matplotlib
from cpsc_train.reporting.report.sets import confusion, sets, trust
from cpsc_train.reporting.report.source import Run, read_runs
from cpsc_train.runs import written_by_a_run
from cpsc_train.writing import make_folder, write

SECTIONS: tuple[Callable[[Sequence[Run]], Section], ...] = (
    by_condition,
    noise,
    sets,
    trust,
    confusion,
    training.accuracy,
    training.losses,
    training.sets,
    training.quantiles,
    training.reliability,
)
"""Sections of a report, in their order."""


def report(
    runs: Sequence[Path | str] | Path | str,
    out: Path | str | None = None,
    *,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write ``report.html`` and ``figures/*.png``; return the HTML file.

    Parameters
    ----------
    runs
        Run folders, or folders of them; several are compared.
    out
        Folder of the report, where an earlier one is replaced. If None, ``report`` in the run folder, or in the folder
        of all runs.
    advance
        Called with the number of pictures drawn and their total.

    Raises
    ------
    UserError
        If a folder holds no run, a file of it cannot be read, matplotlib is not installed, or `out` cannot be written
        or leads through a link.
    """
    require_matplotlib()
    read = read_runs([Path(runs)] if isinstance(runs, (str, Path)) else [Path(run) for run in runs])
    folder = Path(out) if out is not None else Path(os.path.commonpath([run.path for run in read])) / "report"
    pictures = {}
    with written_by_a_run(run.path for run in read):
        sections = [section(read) for section in SECTIONS]
        panels = [panel for section in sections for panel in section.panels]
        for done, panel in enumerate(panels, 1):
            for theme in THEMES:
                pictures[panel, theme] = panel.render(theme)
            advance(done, len(panels))
        html = page(read, sections, pictures)
    # A folder that the user names may be a link; the default is in a run folder, which may come from a stranger.
    below = folder if out is not None else folder.parent
    make_folder(folder / "figures", below=below)
    for panel, name in zip(panels, _file_names(panels), strict=True):
        write(folder / "figures" / name, pictures[panel, "light"], below=below)
    write(folder / "report.html", html, below=below)
    return folder / "report.html"


def _file_names(panels: Sequence[Panel]) -> list[str]:
    """Return a file name of its own for each picture; panel names contain names of runs, which may be any text."""
    count: Counter[str] = Counter()
    names = []
    for panel in panels:
        stem = re.sub(r"[^\w.-]", "_", panel.name)[:200]
        count[stem] += 1
        names.append(f"{stem}.png" if count[stem] == 1 else f"{stem}-{count[stem]}.png")
    return names


__all__ = ["report"]
