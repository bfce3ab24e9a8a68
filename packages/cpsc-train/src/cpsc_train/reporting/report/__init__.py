"""A report of runs: one HTML file with everything in it, and its pictures as PNG files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cpsc_train.errors import UserError, reason
from cpsc_train.reporting.report import outcome, training
from cpsc_train.reporting.report.page import page
from cpsc_train.reporting.report.panel import THEMES, require_matplotlib
from cpsc_train.reporting.report.source import Run, read_runs
from cpsc_train.writing import make_folder, write


def report(
    runs: Sequence[Path | str] | Path | str,
    out: Path | str | None = None,
    *,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write ``report.html`` and ``figures/*.png``.

    Parameters
    ----------
    runs
        Run folders, or folders of them; several are compared.
    out
        The folder to write to, where an earlier report is replaced; ``report`` in the run folder, or in the one that
        holds all runs, if absent.
    advance
        Told how many of the pictures are drawn.

    Returns
    -------
    Path
        The HTML file. It loads nothing from elsewhere.

    Raises
    ------
    UserError
        If a folder holds no run, a file of it cannot be read, matplotlib is not installed, or `out` cannot be written
        or leads through a link.
    """
    require_matplotlib()
    found = read_runs([Path(runs)] if isinstance(runs, (str, Path)) else [Path(run) for run in runs])
    folder = Path(out) if out is not None else Path(os.path.commonpath([run.path for run in found])) / "report"
    pictures = {}
    with _written_by_a_run(found):
        sections = [section(found) for section in (*outcome.SECTIONS, *training.SECTIONS)]
        panels = [panel for section in sections for panel in section.panels]
        for done, panel in enumerate(panels, 1):
            for theme in THEMES:
                pictures[panel.name, theme] = panel.render(theme)
            advance(done, len(panels))
        html = page(found, sections, pictures)
    # A folder that was named may be a link; one that was not lies in a run folder, which may come from elsewhere.
    below = folder if out is not None else folder.parent
    make_folder(folder / "figures", below=below)
    for panel in panels:
        write(folder / "figures" / _file_name(panel.name), pictures[panel.name, "light"], below=below)
    write(folder / "report.html", html, below=below)
    return folder / "report.html"


def _file_name(panel: str) -> str:
    """Return the name of a picture's file: names of modalities are part of it, and may hold anything."""
    return re.sub(r"[^\w.-]", "_", panel)[:200] + ".png"


@contextmanager
def _written_by_a_run(runs: Sequence[Run]) -> Iterator[None]:
    """Say that files hold something else than a run writes, whichever of its many values that shows in."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        where = ", ".join(str(run.path) for run in runs)
        raise UserError(
            f"{where}: a file does not hold what a run writes ({reason(error)}): restore it, or evaluate the run again"
        ) from error


__all__ = ["report"]
