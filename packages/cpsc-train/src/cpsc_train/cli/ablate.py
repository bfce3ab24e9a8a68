"""``cpsc ablate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cpsc_train.cli.execution import ManyRuns
from cpsc_train.cli.hints import print_next
from cpsc_train.cli.options import Quiet, Variants, value


@dataclass(frozen=True, kw_only=True)
class Ablate(ManyRuns):
    """Change one option at a time, over several seeds."""

    examples: ClassVar[str] = """\
Writes one table and one plot. An interrupted ablation resumes. The row full is the configuration, with
RSC and GSC if it has neither.

  cpsc ablate                                     parts of CPSC, embedded data, seeds 0..4
  cpsc ablate --axes parts,refresh --jobs 2
  cpsc ablate --axes all --out runs/ablation
  cpsc ablate --axes parts --variant "literal: method.name=cpsc-literal"
  cpsc ablate --axes none --modalities fou,zer --variant "less: method.residual=0.1"

Axes: parts (neither, RSC, GSC, both), refresh, warm-up, and optimizer (both and neither, compared within
each optimizer). --variant changes any other option.
"""

    axes: Annotated[str, value("A,B")] = "parts"
    """Axes to vary, one at a time; all; or none for only --variant."""
    variant: Variants = ()
    """Variant of your own, as "name: key=value key=value"."""
    seeds: Annotated[str, value("A..B")] = "0..4"
    """Seeds of every variant, as 0..4 or 0,3,7."""
    out: Annotated[Path, value("DIR")] = Path("runs/ablation")
    """Folder of the runs and of table.md, table.csv and plot.png."""
    quiet: Quiet = False
    """Print only the table."""

    def run(self) -> int:
        from cpsc_train.experiments import (
            AXES,
            Grid,
            ablated,
            console_table,
            parse_seeds,
            parse_variants,
            references,
            summarise,
            variants,
            write_tables,
        )
        from cpsc_train.experiments.plots import plot_differences
        from cpsc_train.output import Output

        axes = {"all": list(AXES), "none": []}.get(self.axes, self.axes.split(","))
        base = ablated(self.configuration(inference=[]))
        configs = variants(base, axes, parse_variants(self.variant))
        compared = references(base, axes, configs)
        console = Output()
        grid, executor = Grid(self.out, configs, parse_seeds(self.seeds)), self.chosen_executor()
        if self.dry_run:
            console.print(grid.plan(executor), soft_wrap=True)
            return 0
        results = grid.run(executor=executor, console=console, quiet=self.quiet)
        written = [
            *write_tables(results, self.out, compared),
            plot_differences(summarise(results, "test", compared), self.out / "plot.png"),
        ]
        console.print(console_table(results, compared))
        console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)
        if not self.quiet:
            print_next(console, ["cpsc", "report", self.out])
        return 0
