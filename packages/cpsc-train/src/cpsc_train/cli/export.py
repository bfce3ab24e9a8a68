"""``cpsc export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from cpsc_train.cli.options import Command, File, value


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write the model of a run as safetensors."""

    examples: ClassVar[str] = """\
  cpsc export runs/A
  cpsc export runs/A --out model.safetensors
"""

    run_folder: Annotated[Path, tyro.conf.Positional, value("RUN")]
    """Run folder."""
    out: File = None
    """File to write. Default: RUN/model.safetensors."""

    def run(self) -> int:
        from cpsc_train.output import Output
        from cpsc_train.training.export import export

        path = export(self.run_folder, self.out)
        Output().print(f"written: {path}", soft_wrap=True)
        return 0
