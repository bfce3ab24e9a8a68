"""``cpsc benchmark``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from cpsc_train.cli.chosen import from_recipe

EXAMPLES = """\
Train every method on the same data, encoders, epochs, seeds and selection rule, and compare them.

  cpsc benchmark                                          all methods, embedded data, seeds 0..4
  cpsc benchmark --suite imbalance --methods joint,ogm-ge,cpsc --seeds 0..2
  cpsc benchmark --data av-digits --root data/av-digits --jobs 2
  cpsc benchmark --variant "cpsc, ensemble: method.judge=ensemble"
  cpsc benchmark --tuned runs/tune                        options that `cpsc tune` has found

Suites look at the same runs: imbalance (each modality, their mean, what each contributes) and noise (every
noisy condition, their mean, the worst). Written: a table a suite as .md, .tex and .csv, and benchmark.html
with pictures of ranks. A stopped benchmark goes on where it was.
"""


@tyro.conf.configure(tyro.conf.subcommand("benchmark", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Train every method on the same data, seeds and selection rule, and compare them."""

    suite: Annotated[str, tyro.conf.arg(metavar="A,B")] = "imbalance,noise"
    """What is looked at."""
    data: Annotated[str, tyro.conf.arg(metavar="NAME")] = "handwritten"
    """A recipe: data set, encoders, optimizer, epochs, noise."""
    modalities: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    """Modalities, in order; the recipe's own choice if absent."""
    root: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the data set lies."""
    methods: Annotated[str, tyro.conf.arg(metavar="A,B")] = "all"
    """Methods; `all` for every one of `cpsc methods` that can be run."""
    variant: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME:KEY=VALUE")] = ()
    """A row of your own, as "name: key=value key=value"; may be given more than once."""
    tuned: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of `cpsc tune`: each method that was tuned there has the options that were found."""
    reference: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The row that others are compared with; `cpsc` if it is there, else the first."""
    seeds: Annotated[str, tyro.conf.arg(metavar="A..B")] = "0..4"
    """Seeds of every method, as 0..4 or 0,3,7."""
    jobs: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Runs at a time."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/benchmark")
    """Folder of all runs and tables."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Any value of the configuration of all methods."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print the tables only."""

    def run(self) -> int:
        """Run, and return the exit code."""
        from cpsc_train.config.choice import unknown  # noqa: PLC0415
        from cpsc_train.errors import UserError  # noqa: PLC0415
        from cpsc_train.experiments import Grid, Variant, parse_seeds, publish  # noqa: PLC0415
        from cpsc_train.experiments.benchmark import contenders  # noqa: PLC0415
        from cpsc_train.experiments.scoreboard import costs, scoreboard, write_csv  # noqa: PLC0415
        from cpsc_train.experiments.suites import SUITES  # noqa: PLC0415
        from cpsc_train.experiments.tune import tuned_options  # noqa: PLC0415
        from cpsc_train.output import Output  # noqa: PLC0415  # heavy imports wait until there is work
        from cpsc_train.reporting.report.panel import require_matplotlib  # noqa: PLC0415

        suites = self.suite.split(",")
        for name in suites:
            if name not in SUITES:
                raise UserError(unknown("suite", name, list(SUITES)))
        require_matplotlib()
        base = from_recipe(self.data, modalities=self.modalities, root=self.root, settings=self.set)
        tuned = {} if self.tuned is None else tuned_options(self.tuned)
        configs = contenders(base, self.methods.split(","), [Variant.parse(t) for t in self.variant], tuned)
        reference = self.reference or ("cpsc" if "cpsc" in configs else next(iter(configs)))
        if reference not in configs:
            raise UserError(unknown("reference", reference, list(configs)))
        console = Output()
        grid = Grid(self.out, configs, parse_seeds(self.seeds))
        results = grid.run(jobs=self.jobs, console=console, quiet=self.quiet)
        taken = costs(grid, results)
        boards = {name: scoreboard(results, taken, SUITES[name], name, reference=reference) for name in suites}
        written = publish.write(boards, self.out)
        written += [write_csv(board, results, self.out / f"{name}.csv") for name, board in boards.items()]
        for board in boards.values():
            console.print(publish.console_table(board))
        console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)
        return 0
