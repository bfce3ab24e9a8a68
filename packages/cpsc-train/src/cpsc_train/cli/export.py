"""``cpsc export``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from cpsc_train.cli.hints import print_next
from cpsc_train.cli.options import Command, File, value

READ = {
    "safetensors": "from safetensors.torch import load_file; print(*load_file({}))",
    "torch-export": "import torch; print(torch.export.load({}))",
    "onnx": "from onnxruntime import InferenceSession; print(*InferenceSession({}).get_inputs())",
}
"""Code that shows what a file holds, by its format."""


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Export the model of a run for other programs."""

    examples: ClassVar[str] = """\
A model card, with the suffix .md, is written beside it.

  cpsc export runs/A
  cpsc export runs/A --format onnx --out model.onnx
"""

    run_folder: Annotated[Path, tyro.conf.Positional, value("RUN")]
    """Run folder."""
    format: Annotated[Literal["safetensors", "torch-export", "onnx"], value("FORMAT")] = "safetensors"
    """safetensors (parameters), or torch-export or onnx (the forward pass)."""
    out: File = None
    """File to write. Default: model.safetensors, model.pt2 or model.onnx in RUN."""
    inference: Annotated[str | None, value("NAME")] = None
    """Inference variant of the run, or plain. Default: trust if the run has it."""

    def run(self) -> int:
        from cpsc_train.deployment import export
        from cpsc_train.output import Output

        path = export(self.run_folder, self.out, format=self.format, inference=self.inference)
        console = Output()
        console.print(f"written: {path} and {path.with_suffix('.md').name}", soft_wrap=True)
        print_next(console, ["python", "-c", READ[self.format].format(json.dumps(str(path)))])
        return 0
