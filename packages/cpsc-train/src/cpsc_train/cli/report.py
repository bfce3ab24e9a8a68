"""``cpsc report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

EXAMPLES = """\
Write one HTML file that shows a run, or compares several, and its pictures as PNG files.

  cpsc report runs/A                     to runs/A/report/report.html
  cpsc report runs/A runs/B --out both
  cpsc report runs/ablation              every run in a folder of runs
"""


@tyro.conf.configure(tyro.conf.subcommand("report", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Report:
    """Write one HTML file that shows a run, or compares several, and its pictures as PNG files."""

    runs: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN [RUN ...]")]]
    """Run folders, or folders of them."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where to write; `report` in the run folder, or in the one that holds all runs, if absent."""

    def run(self) -> int:
        """Write the report, and return the exit code."""
        from rich.progress import Progress  # noqa: PLC0415

        from cpsc_train.output import Output  # noqa: PLC0415  # heavy imports wait until there is work
        from cpsc_train.reporting.report import report  # noqa: PLC0415
        from cpsc_train.writing import check_writable  # noqa: PLC0415

        if self.out is not None:
            check_writable(self.out, folder=True)
        console = Output()
        with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
            task = progress.add_task("drawing", total=None)
            path = report(self.runs, self.out, advance=lambda done, of: progress.update(task, completed=done, total=of))
        console.print(f"written: {path}", soft_wrap=True)
        return 0
