"""``cpsc evaluate``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from cpsc_train.cli.hints import print_next, shared
from cpsc_train.cli.options import Command, File, Inferences, Root, value, variants
from cpsc_train.launch import is_main_process

if TYPE_CHECKING:
    from cpsc_train.output import Output


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Evaluate the checkpoint of a run, also under other noise."""

    distributed: ClassVar[bool] = True
    examples: ClassVar[str] = """\
Only the run folder is needed. Results are compared with its results.json.

  cpsc evaluate runs/A
  cpsc evaluate runs/A --noise pix:gaussian:0.25,0.5,1 --noise fou:gaussian:1,2,4 --out sweep.json
  cpsc evaluate runs/A --noise pix:all@1-5                every kind that applies, at five levels
  cpsc evaluate runs/A --noise pix:blur@3+fou:gaussian@3  both modalities at once
  cpsc evaluate runs/A --noise strict:GS@0,5,10
  cpsc evaluate runs/A --inference trust,read,dasp        also with three inference variants
"""

    run_folder: Annotated[Path, tyro.conf.Positional, value("RUN")]
    """Run folder."""
    root: Root = None
    """Folder or address of the data set, if it has moved."""
    noise: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NOISE")] = ()
    """Noise instead of that of the run: MODALITY:KIND:SEVERITIES, MODALITY:KIND@LEVELS or PROTOCOL:KIND@LEVELS."""
    inference: Inferences = None
    """Inference variants instead of those of the run: trust, read, dasp; none for none."""
    out: File = None
    """Also write the results to this JSON file."""

    def run(self) -> int:
        from cpsc_train.data import Noise
        from cpsc_train.output import Output
        from cpsc_train.reporting.console import print_results
        from cpsc_train.runs import RunFolder
        from cpsc_train.training import evaluate
        from cpsc_train.writing import check_writable, write

        if self.out is not None:
            check_writable(self.out)
        folder = RunFolder(self.run_folder)
        protocols = [text for text in self.noise if set("@+") & set(text)]
        sweep = [one for text in self.noise if text not in protocols for one in Noise.sweep(text)]
        inference = variants(self.inference)
        noise = sweep if self.noise else None
        results = evaluate(folder, noise=noise, protocols=protocols, inference=inference, root=self.root)
        console = Output(quiet=not is_main_process())
        print_results(results, console)
        if self.out is not None and is_main_process():
            write(self.out, json.dumps(results, indent=1) + "\n")
        recorded = folder.read_results()
        if not self.noise and self.inference is None:
            self._compare(results, recorded, console)
        unfinished = ["train", *shared(self, ["modules", "root"]), "--resume"]
        print_next(console, ["cpsc", *(["report"] if recorded else unfinished), folder.path])
        return 0

    @staticmethod
    def _compare(results: dict[str, Any], recorded: dict[str, Any] | None, console: Output) -> None:
        if recorded is None:
            console.print("the run was not finished: there is no results.json to compare with")
        elif {key: recorded.get(key) for key in results} == results:
            console.print("identical to results.json, to the last digit")
        else:
            differing = [key for key in results if recorded.get(key) != results[key]]
            console.print(f"differs from results.json in: {', '.join(differing)}")
