"""``cpsc benchmark``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cpsc_train.cli.execution import ManyRuns
from cpsc_train.cli.hints import print_next, shared
from cpsc_train.cli.options import CONFIGURING, Folder, Inferences, Quiet, Variants, flag, value, variants


@dataclass(frozen=True, kw_only=True)
class Benchmark(ManyRuns):
    """Compare training methods over several seeds."""

    examples: ClassVar[str] = """\
All methods use the same data, encoders, epochs, seeds and selection rule.

  cpsc benchmark                                          all methods, embedded data, seeds 0..4
  cpsc benchmark --suites imbalance --methods joint,ogm-ge,cpsc --seeds 0..2
  cpsc benchmark --data av-digits --root data/av-digits --jobs 2
  cpsc benchmark --variant "K = 1: method.parts=both method.top_k=1"
  cpsc benchmark --tuned runs/tune                        options found by `cpsc tune`
  cpsc benchmark --seeds 0..9 --divisions each            a separate division of the data for each seed
  cpsc benchmark --inference trust,read                   adds rows METHOD + trust and METHOD + read

Suites use the same runs: imbalance (accuracy and contribution of each modality) and noise (accuracy in every
noisy condition, the mean and the worst). Each writes a table as .md and .csv, and mean ranks as .png. runs.csv has
a line for each run and condition; with --tuned, tuned.md lists the chosen options. An interrupted benchmark resumes.
"""

    suites: Annotated[str, value("A,B")] = "imbalance,noise"
    """Tables to write: imbalance, noise."""
    methods: Annotated[str, value("A,B")] = "all"
    """Methods to compare; `cpsc methods list` shows them."""
    variant: Variants = ()
    """Row of your own, as "name: key=value key=value"."""
    tuned: Folder = None
    """Folder of `cpsc tune`, whose options are used."""
    reference: Annotated[str | None, value("NAME")] = None
    """Row that the others are compared with. Default: cpsc, else the first."""
    seeds: Annotated[str, value("A..B")] = "0..4"
    """Seeds of every method, as 0..4 or 0,3,7."""
    divisions: Annotated[str | None, value("A..B")] = None
    """Divisions of the data, as 0..4; each: a separate one for every seed."""
    inference: Inferences = None
    """Inference variants, each in an additional row: trust, read, dasp."""
    keep_going: Annotated[bool, flag] = False
    """Leave out rows with a failed run."""
    out: Annotated[Path, value("DIR")] = Path("runs/benchmark")
    """Folder of the runs and tables."""
    quiet: Quiet = False
    """Print only the tables."""

    def run(self) -> int:
        from cpsc_train.config import unknown
        from cpsc_train.errors import UserError
        from cpsc_train.experiments import Grid, contenders, parse_divisions, parse_seeds, parse_variants
        from cpsc_train.experiments.plots import plot_ranks
        from cpsc_train.experiments.scoreboard import costs, scoreboard
        from cpsc_train.experiments.suites import SUITES, chosen_suites
        from cpsc_train.experiments.tune import tuned_options, write_choices
        from cpsc_train.experiments.variants import expanded, lines
        from cpsc_train.output import Output
        from cpsc_train.reporting.report.panel import require_matplotlib
        from cpsc_train.writing import as_csv, write

        suites = chosen_suites(self.suites)
        require_matplotlib()
        tuned = {} if self.tuned is None else tuned_options(self.tuned)
        base = self.configuration(inference=variants(self.inference))
        configs = contenders(base, self.methods.split(","), parse_variants(self.variant), tuned)
        reference = self.reference or ("cpsc" if "cpsc" in configs else next(iter(configs)))
        if reference not in configs:
            raise UserError(unknown("reference", reference, list(configs)))
        console = Output()
        divisions = None if self.divisions is None else parse_divisions(self.divisions)
        grid = Grid(self.out, configs, parse_seeds(self.seeds), divisions)
        executor = self.chosen_executor()
        if self.dry_run:
            console.print(grid.plan(executor), soft_wrap=True)
            return 0
        runs = grid.run(executor=executor, console=console, quiet=self.quiet, keep_going=self.keep_going)
        if reference not in runs:
            raise UserError(f"a run of the reference {reference} failed: choose another --reference")
        results = expanded(runs)
        taken = costs(grid, results)
        boards = {name: scoreboard(results, taken, SUITES[name], name, reference=reference) for name in suites}
        write(self.out / "runs.csv", as_csv(lines(results)))
        written = [self.out / "runs.csv"]
        if self.tuned is not None:
            written.append(write_choices(self.tuned, list(runs), self.out / "tuned.md"))
        for name, board in boards.items():
            written += [*board.write(results, name, self.out), plot_ranks(board, self.out / f"{name}.png")]
            console.print(board.console())
        console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)
        if not self.quiet:
            print_next(console, ["cpsc", "report", grid.path(reference, 0).parent])
            if self.tuned is None:
                print_next(console, ["cpsc", "tune", *shared(self, [*CONFIGURING, "methods", "variant"])])
        return 0
