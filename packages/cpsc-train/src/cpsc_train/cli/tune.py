"""``cpsc tune``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from cpsc_train.cli.execution import ManyRuns
from cpsc_train.cli.hints import print_next, shared
from cpsc_train.cli.options import CONFIGURING, Quiet, Variants, value


@dataclass(frozen=True, kw_only=True)
class Tune(ManyRuns):
    """Search options of methods on validation rows."""

    examples: ClassVar[str] = """\
Every method has the same number of trials. Requires the extra tune.

  cpsc tune --methods cpsc,qmf --trials 20
  cpsc tune --data av-digits --root data/av-digits --methods all --trials 10 --jobs 2
  cpsc benchmark --methods cpsc,qmf --tuned runs/tune
  cpsc tune --trials 8 --kinds gaussian --variant "cpsc, RSC only: method.parts=rsc"

The search covers the learning rate, from a tenth to ten times that of the recipe, and the marked options of each
method (`cpsc methods show NAME`). The first trial uses the defaults. Test rows are never used. An interrupted
search resumes, and --trials may be increased later.
"""

    methods: Annotated[str, value("A,B")] = "all"
    """Methods to tune; all; or none, for --variant alone."""
    trials: Annotated[int, value("N")] = 20
    """Trials of each method, the first with its defaults."""
    goal: Annotated[Literal["clean", "mean"], value("GOAL")] = "mean"
    """Fused validation accuracy to maximise: clean, on clean rows; mean, over clean and noisy rows."""
    optimizers: Annotated[str | None, value("A,B")] = None
    """Also search these optimizers, such as adam,sgd."""
    kinds: Annotated[str | None, value("A,B")] = None
    """Kinds of noise in the mean. Default: all."""
    variant: Variants = ()
    """Row of your own to tune, as "name: key=value key=value"."""
    seed: Annotated[int, value("N")] = 0
    """Seed of every trial, and of the search."""
    storage: Annotated[str | None, value("S")] = None
    """Journal file or database URL for several machines. Default: study.db."""
    out: Annotated[Path, value("DIR")] = Path("runs/tune")
    """Folder of the trials, study.db and tuned.toml."""
    quiet: Quiet = False
    """Print only the table."""

    def run(self) -> int:
        from cpsc_train.experiments import contenders, parse_variants
        from cpsc_train.experiments.tune import TUNED, Tuning, of_kinds, table
        from cpsc_train.output import Output

        base = self.configuration(seed=self.seed, inference=[])
        if self.kinds is not None:
            base = of_kinds(base, self.kinds.split(","))
        methods = [] if self.methods == "none" else self.methods.split(",")
        configs = contenders(base, methods, parse_variants(self.variant))
        console = Output()
        optimizers = () if self.optimizers is None else tuple(self.optimizers.split(","))
        tuning = Tuning(
            self.out, configs, trials=self.trials, goal=self.goal, optimizers=optimizers, storage=self.storage
        )
        executor = self.chosen_executor()
        if self.dry_run:
            console.print(tuning.plan(executor), soft_wrap=True)
            return 0
        outcomes = tuning.run(executor=executor, console=console, quiet=self.quiet)
        console.print(table(outcomes).console())
        console.print(f"written: {self.out / TUNED}", soft_wrap=True)
        if not self.quiet and methods:
            options = shared(self, [*CONFIGURING, "methods", "variant"])
            print_next(console, ["cpsc", "benchmark", *options, "--tuned", self.out])
        return 0
