"""``cpsc report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from cpsc_train.cli.hints import print_next
from cpsc_train.cli.options import Command, Folder, progress, value


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Write one HTML file that shows a run, or compares several."""

    examples: ClassVar[str] = """\
Its figures are written as PNG files, too.

  cpsc report runs/A                     to runs/A/report/report.html
  cpsc report runs/A runs/B --out both
  cpsc report runs/ablation              every run in a folder of runs
"""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, value("RUN [RUN ...]")]
    """Run folders, or folders of them."""
    out: Folder = None
    """Folder to write to. Default: report/ in the folder of the run or runs."""

    def run(self) -> int:
        from cpsc_train.output import Output
        from cpsc_train.reporting.report import report
        from cpsc_train.reporting.report.source import run_folders
        from cpsc_train.runs import RunFolder
        from cpsc_train.writing import check_writable

        if self.out is not None:
            check_writable(self.out, folder=True)
        console = Output()
        with progress(console, "drawing") as advance:
            path = report(self.runs, self.out, advance=advance)
        console.print(f"written: {path}", soft_wrap=True)
        first = run_folders(self.runs)[0]
        noise = f"{RunFolder(first).read_config()['data']['modalities'][0]}:all@1-5"
        print_next(console, ["cpsc", "evaluate", first, "--noise", noise])
        return 0
