"""``cpsc train``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cpsc_train.launch import speaks

if TYPE_CHECKING:
    from cpsc_train.output import Output
    from cpsc_train.reporting import Observer
    from cpsc_train.runs import RunFolder
    from cpsc_train.training import RunConfig


EXAMPLES = """\
Train a model, select the epoch on validation rows, and evaluate it once on the test rows.

  cpsc train                            CPSC, embedded data
  cpsc train --method joint --seed 1    the plain baseline
  cpsc train --seeds 0..4               five seeds, mean ± sd
  cpsc train --modalities fou,zer,mor   other views
  cpsc train --set method.top_k=5       any option
  cpsc train --config runs/A/config.toml
  cpsc train --resume runs/A            go on after a kill
  torchrun --nproc-per-node 2 -m cpsc_train train
"""


@tyro.conf.configure(tyro.conf.subcommand("train", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model, select the epoch on validation rows, and evaluate it once on the test rows."""

    recipe: Annotated[str, tyro.conf.arg(metavar="NAME")] = "handwritten"
    """The configuration to start from; `cpsc recipe list` shows all."""
    mode: Annotated[Literal["ours", "paper", "released"], tyro.conf.arg(metavar="MODE")] = "ours"
    """Whose reading of CPSC: ours, the paper's to the letter (paper), or that of the authors' code (released)."""
    root: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the data set lies."""
    method: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Training method, such as cpsc or joint; `cpsc methods` lists all. The recipe's own if absent."""
    refresh: Annotated[str | None, tyro.conf.arg(metavar="POLICY")] = None
    """How the conformal predictor follows the model: exact, rolling, epoch or interval:K."""
    gate: Literal["off", "classes", "all"] | None = None
    """A conformal gate at inference: a modality whose features lie farther from those of training (from the nearest
    class, or from all) than those of calibration counts for less. The recipe's own if absent."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Seed of the parameters and the batch order."""
    seeds: Annotated[str | None, tyro.conf.arg(metavar="A..B")] = None
    """Several seeds, as 0..4 or 0,3,7: one run each, in --out/default/seed-N, and a table over them."""
    jobs: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """With --seeds, how many runs at a time."""
    epochs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Passes over the training rows."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The run folder to make; runs/RECIPE-METHOD-seedN-TIME if absent. An existing one is refused."""
    modalities: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    """Modalities to use, as A,B or more."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A TOML file, such as the config.toml of a run, in place of a recipe."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Any value of the configuration, such as --set method.top_k=5; may be given more than once."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Go on with a run that was killed or interrupted; everything else is in its folder."""
    log_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write a line for each epoch to this file."""
    tensorboard: bool = False
    """Also write curves for TensorBoard to the run folder (pip install "cpsc-train[tensorboard]")."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print the final tables only."""
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Print all figures of every epoch."""

    def run(self) -> int:
        """Train, and return the exit code."""
        from cpsc_train.output import Output  # noqa: PLC0415  # heavy imports wait until there is work
        from cpsc_train.runs import RunFolder  # noqa: PLC0415

        console = Output(quiet=not speaks())
        if self.resume is not None:
            self._refuse_beside_resume()
            return self._train(None, RunFolder(self.resume), console)
        config = self._resolve()
        if self.seeds is not None:
            return self._sweep(config, console)
        folder = RunFolder(self.out or _default_path(config))
        if speaks():
            folder.refuse_if_present()
        return self._train(config, folder, console)

    def _train(self, config: RunConfig | None, folder: RunFolder, console: Output) -> int:
        from cpsc_train.reporting.console import print_results  # noqa: PLC0415
        from cpsc_train.training import resume, train  # noqa: PLC0415

        observer = self._observer(console)
        try:
            results = resume(folder, observer) if config is None else train(config, folder, observer)
        except KeyboardInterrupt:
            console.print(
                f"\ninterrupted; go on: cpsc train --resume {folder.path}; what is there so far: "
                f"cpsc evaluate {folder.path}",
                soft_wrap=True,
            )
            raise
        finally:
            observer.close()
        if self.quiet:
            print_results(results, console)
        console.print(f"{results['seconds']:.1f} s; everything is in {folder.path}", soft_wrap=True)
        return 0

    def _sweep(self, config: RunConfig, console: Output) -> int:
        from cpsc_train.experiments import Grid, console_table, parse_seeds  # noqa: PLC0415

        seeds = parse_seeds(self.seeds or "")
        out = self.out or _default_path(config).with_name(_default_path(config).name.replace("seed0", "seeds"))
        grid = Grid(out, {"default": config}, seeds)
        results = grid.run(jobs=self.jobs, console=console, quiet=self.quiet)
        console.print(console_table(results))
        console.print(f"everything is in {out}")
        return 0

    def _observer(self, console: Output) -> Observer:
        from cpsc_train.reporting import Observers  # noqa: PLC0415
        from cpsc_train.reporting.console import ConsoleObserver  # noqa: PLC0415
        from cpsc_train.reporting.log_file import LogFile  # noqa: PLC0415
        from cpsc_train.reporting.tensorboard import TensorBoard  # noqa: PLC0415

        told: list[Observer] = [] if self.quiet else [ConsoleObserver(console, verbose=self.verbose)]
        if self.log_file is not None and not console.quiet:
            told.append(LogFile(self.log_file))
        if self.tensorboard and not console.quiet:
            told.append(TensorBoard())
        return Observers(told)

    def _resolve(self) -> RunConfig:
        from cpsc_train.config import apply_overrides, read_toml  # noqa: PLC0415
        from cpsc_train.errors import UserError  # noqa: PLC0415
        from cpsc_train.recipes import recipe  # noqa: PLC0415
        from cpsc_train.training import RunConfig  # noqa: PLC0415

        if self.config is None:
            modalities = None if self.modalities is None else tuple(self.modalities.split(","))
            base = recipe(self.recipe, mode=self.mode, modalities=modalities)
        elif self.modalities is None and self.mode == "ours":
            base = RunConfig.from_plain(read_toml(self.config))
        else:
            raise UserError(
                "--modalities and --mode belong to a recipe; with --config, set data.modalities and encoders in the "
                "file"
            )
        changes: dict[str, Any] = {"seed": self.seed, "epochs": self.epochs}
        base = replace(base, **{key: value for key, value in changes.items() if value is not None})
        named = {
            "method.name": self.method,
            "conformal.refresh": self.refresh,
            "gate.distance": self.gate,
            "data.root": self.root,
        }
        overrides = [f"{key}={value}" for key, value in named.items() if value is not None]
        return RunConfig.from_plain(apply_overrides(base.to_plain(), [*overrides, *self.set]))

    def _refuse_beside_resume(self) -> None:
        from cpsc_train.errors import UserError  # noqa: PLC0415

        defaults = Train()
        spoken = {"resume", "log_file", "tensorboard", "quiet", "verbose"}
        given = [name for name, value in vars(self).items() if name not in spoken and value != getattr(defaults, name)]
        if given:
            raise UserError(
                f"--resume goes on with the run as it was configured, so that --{given[0]} has no place beside it"
            )


def _default_path(config: RunConfig) -> Path:
    from datetime import datetime  # noqa: PLC0415

    now = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.recipe}-{config.method.name}-seed{config.seed}-{now}"
