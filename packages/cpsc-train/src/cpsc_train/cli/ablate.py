"""``cpsc ablate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cpsc_train.cli.chosen import from_recipe

EXAMPLES = """\
Change one option at a time, over several seeds: one table, one plot. A stopped ablation goes on where it was.

  cpsc ablate                                     parts of CPSC, embedded data, seeds 0..4
  cpsc ablate --axes parts,refresh,alpha --jobs 2
  cpsc ablate --axes all --out runs/ablation
  cpsc ablate --axes parts --variant "literal: method.residual=1.0 method.divergence=kl"
  cpsc ablate --axes none --modalities fou,zer --variant "less: method.residual=0.1"

Axes: parts (neither, RSC, GSC, both), refresh, warm-up, optimizer, components, top-k, alpha, heads,
judge (the conformal rank, or the probability of a Bayesian approximation), inference.
"""


@tyro.conf.configure(tyro.conf.subcommand("ablate", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Ablate:
    """Change one option at a time, over several seeds: one table, one plot."""

    recipe: Annotated[str, tyro.conf.arg(metavar="NAME")] = "handwritten"
    """The configuration that is ablated."""
    mode: Annotated[Literal["ours", "paper", "released"], tyro.conf.arg(metavar="MODE")] = "ours"
    """Whose reading of CPSC."""
    modalities: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    """Modalities, in order; the recipe's own choice if absent."""
    root: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the data set lies."""
    axes: Annotated[str, tyro.conf.arg(metavar="A,B")] = "parts"
    """What is varied, one axis at a time; `all` for every axis, `none` for your own variants alone."""
    variant: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME:KEY=VALUE")] = ()
    """A variant of your own, as "name: key=value key=value"; may be given more than once."""
    seeds: Annotated[str, tyro.conf.arg(metavar="A..B")] = "0..4"
    """Seeds of every variant, as 0..4 or 0,3,7."""
    jobs: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Runs at a time."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/ablation")
    """Folder of all runs, table.md, table.csv and plot.png."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Any value of the configuration of all variants."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print the table only."""

    def run(self) -> int:
        """Run, and return the exit code."""
        from cpsc_train.experiments import (  # noqa: PLC0415
            AXES,
            Grid,
            Variant,
            console_table,
            parse_seeds,
            variants,
            write_tables,
        )
        from cpsc_train.experiments.plot import plot_summary  # noqa: PLC0415
        from cpsc_train.output import Output  # noqa: PLC0415  # heavy imports wait until there is work

        base = from_recipe(self.recipe, modalities=self.modalities, root=self.root, settings=self.set, mode=self.mode)
        axes = {"all": list(AXES), "none": []}.get(self.axes, self.axes.split(","))
        configs = variants(base, axes, [Variant.parse(text) for text in self.variant])
        console = Output()
        results = Grid(self.out, configs, parse_seeds(self.seeds)).run(
            jobs=self.jobs, console=console, quiet=self.quiet
        )
        written = [*write_tables(results, self.out), plot_summary(results, self.out / "plot.png")]
        console.print(console_table(results))
        console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)
        return 0
