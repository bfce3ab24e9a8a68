"""``cpsc evaluate``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

EXAMPLES = """\
Measure the checkpoint of a run again, from its folder alone, and compare with its results.json.

  cpsc evaluate runs/A
  cpsc evaluate runs/A --noise pix:gaussian:0.25,0.5,1 --noise fou:gaussian:1,2,4 --out sweep.json
  cpsc evaluate runs/A --noise strict:GS@0,5,10
  cpsc evaluate runs/A --gate classes                with a conformal gate on the modalities
"""


@tyro.conf.configure(tyro.conf.subcommand("evaluate", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure the checkpoint of a run again, from its folder alone, and compare with its results.json."""

    run_folder: tyro.conf.Positional[Path]
    """The run folder."""

    noise: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="MODALITY:KIND:A,B")] = ()
    """Noise to sweep in place of the run's own conditions, or a named protocol, as qmf:GS@5,10 (qmf, cpsc, strict); may
    be given more than once."""
    gate: Literal["off", "classes", "all"] | None = None
    """A conformal gate in place of that of the run: a modality whose features lie farther from those of training (from
    the nearest class, or from all) than those of calibration counts for less."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write what was measured to this JSON file."""

    def run(self) -> int:
        """Evaluate, and return the exit code."""
        from cpsc_train.data import Noise  # noqa: PLC0415
        from cpsc_train.models import GateConfig  # noqa: PLC0415
        from cpsc_train.output import Output  # noqa: PLC0415  # heavy imports wait until there is work
        from cpsc_train.reporting.console import print_results  # noqa: PLC0415
        from cpsc_train.runs import RunFolder  # noqa: PLC0415
        from cpsc_train.training import evaluate  # noqa: PLC0415
        from cpsc_train.writing import check_writable, write  # noqa: PLC0415

        if self.out is not None:
            check_writable(self.out)
        folder = RunFolder(self.run_folder)
        protocols = [text for text in self.noise if "@" in text]
        sweep = [one for text in self.noise if "@" not in text for one in Noise.sweep(text)]
        gate = None if self.gate is None else GateConfig(distance=self.gate)
        results = evaluate(folder, noise=sweep if self.noise else None, protocols=protocols, gate=gate)
        console = Output()
        print_results(results, console)
        if self.out is not None:
            write(self.out, json.dumps(results, indent=1) + "\n")
        if self.noise or self.gate is not None:
            return 0
        recorded = folder.read_results()
        if recorded is None:
            console.print("the run was not finished: there is no results.json to compare with")
        elif {key: recorded.get(key) for key in results} == results:
            console.print("identical to results.json, to the last digit")
        else:
            differing = [key for key in results if recorded.get(key) != results[key]]
            console.print(f"differs from results.json in: {', '.join(differing)}")
        return 0
