"""``cpsc export``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from cpsc_train.cli.hints import print_next
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
        console = Output()
        console.print(f"written: {path}", soft_wrap=True)
        code = f"from safetensors.torch import load_file; print(*load_file({json.dumps(str(path))}))"
        print_next(console, ["python", "-c", code])
        return 0
