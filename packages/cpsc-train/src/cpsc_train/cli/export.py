"""``cpsc export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

EXAMPLES = """\
Write the kept model of a run as safetensors, for other programs and for sharing.

  cpsc export runs/A
  cpsc export runs/A --out model.safetensors
"""


@tyro.conf.configure(tyro.conf.subcommand("export", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the kept model of a run as safetensors, for other programs and for sharing."""

    run_folder: tyro.conf.Positional[Path]
    """The run folder."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The file to write; RUN/model.safetensors if absent."""

    def run(self) -> int:
        """Write the file, and return the exit code."""
        from cpsc_train.output import Output  # noqa: PLC0415  # heavy imports wait until there is work
        from cpsc_train.runs.export import export  # noqa: PLC0415

        path = export(self.run_folder, self.out)
        Output().print(f"written: {path}", soft_wrap=True)
        return 0
