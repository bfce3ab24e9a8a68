"""``cpsc tune``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cpsc_train.cli.chosen import from_recipe

EXAMPLES = """\
Look for good options of methods on validation rows, with as many trials for every method. Needs the extra `tune`.

  cpsc tune --methods cpsc,qmf --trials 20
  cpsc tune --data av-digits --root data/av-digits --methods all --trials 10 --jobs 2
  cpsc benchmark --methods cpsc,qmf --tuned runs/tune

Searched: the learning rate, from a tenth to ten times that of the recipe, and the options that matter of each
method (cpsc methods NAME shows them). The first trial has the defaults. Test rows are never looked at. A stopped
search goes on where it was; more trials may be asked for later.
"""


@tyro.conf.configure(tyro.conf.subcommand("tune", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Tune:
    """Look for good options of methods on validation rows, with as many trials for every method."""

    data: Annotated[str, tyro.conf.arg(metavar="NAME")] = "handwritten"
    """A recipe: data set, encoders, optimizer, epochs, noise."""
    modalities: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    """Modalities, in order; the recipe's own choice if absent."""
    root: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the data set lies."""
    methods: Annotated[str, tyro.conf.arg(metavar="A,B")] = "all"
    """Methods; `all` for every one."""
    trials: Annotated[int, tyro.conf.arg(metavar="N")] = 20
    """Trials of each method, the first with its defaults."""
    goal: Annotated[Literal["clean", "mean"], tyro.conf.arg(metavar="GOAL")] = "mean"
    """Fused validation accuracy that is to be high: on clean rows, or the mean over clean and noisy ones."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of every trial, and of the search."""
    jobs: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Trials at a time."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/tune")
    """Folder of all trials, study.db and tuned.toml."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Any value of the configuration of all methods."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print the table only."""

    def run(self) -> int:
        """Run, and return the exit code."""
        from cpsc_train.experiments.benchmark import contenders  # noqa: PLC0415
        from cpsc_train.experiments.tune import FOUND, Tuning, table  # noqa: PLC0415
        from cpsc_train.output import Output  # noqa: PLC0415  # heavy imports wait until there is work

        base = from_recipe(self.data, modalities=self.modalities, root=self.root, settings=self.set, seed=self.seed)
        configs = contenders(base, self.methods.split(","))
        console = Output()
        found = Tuning(self.out, configs, trials=self.trials, goal=self.goal).run(
            jobs=self.jobs, console=console, quiet=self.quiet
        )
        console.print(table(found))
        console.print(f"written: {self.out / FOUND}", soft_wrap=True)
        return 0
