"""``cpsc train``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from cpsc_train.cli.hints import new_samples, print_next, shared
from cpsc_train.cli.options import File, Folder, Inferences, Quiet, RunOptions, value, variants
from cpsc_train.launch import is_main_process, require_one_process

if TYPE_CHECKING:
    from cpsc_train.output import Output
    from cpsc_train.reporting import Observer
    from cpsc_train.runs import RunFolder
    from cpsc_train.training import RunConfig


@dataclass(frozen=True, kw_only=True)
class Train(RunOptions):
    """Train a model and evaluate it on test rows."""

    distributed: ClassVar[bool] = True
    examples: ClassVar[str] = """\
The best epoch is selected on validation rows.

  cpsc train                            embedded data, with the default method
  cpsc train --data table --root A.csv  your own images, sound, videos, texts
  cpsc train --method joint --seed 1    joint training, a baseline
  cpsc train --seeds 0..4               five seeds, mean ± sd
  cpsc train --modalities fou,zer,mor   other views
  cpsc train --set method.parts=both    with RSC and GSC, the parts of CPSC
  cpsc train --resume runs/A            continue an interrupted run
  torchrun --nproc-per-node 2 -m cpsc_train train
"""

    method: Annotated[str | None, value("NAME")] = None
    """Training method; see `cpsc methods list`."""
    refresh: Annotated[str | None, value("POLICY")] = None
    """Refresh of calibration scores: exact, rolling, epoch, interval:K."""
    inference: Inferences = None
    """Inference variants to evaluate as well: trust, read, dasp; none for none."""
    seed: Annotated[int | None, value("N")] = None
    """Seed of the parameters and the batch order."""
    seeds: Annotated[str | None, value("A..B")] = None
    """Several seeds, as 0..4 or 0,3,7: one run for each, and a table."""
    jobs: Annotated[int, value("N")] = 1
    """With --seeds, number of parallel runs."""
    epochs: Annotated[int | None, value("N")] = None
    """Passes over the training rows."""
    out: Folder = None
    """New run folder. Default: runs/RECIPE-METHOD-seedN-TIME."""
    resume: Annotated[Path | None, value("RUN")] = None
    """Continue a run that was killed or interrupted."""
    log_file: File = None
    """Also write a line for each epoch to this file."""
    track: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="TOOL")] = ()
    """Also log to tensorboard, wandb, mlflow or trackio, each an extra."""
    quiet: Quiet = False
    """Print only the final tables."""
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"], help_behavior_hint="")] = False
    """Print all figures of every epoch."""

    def run(self) -> int:
        from cpsc_train.output import Output
        from cpsc_train.runs import RunFolder

        console = Output(quiet=not is_main_process())
        if self.resume is not None:
            self._refuse_beside_resume()
            return self._train(None, RunFolder(self.resume), console)
        config = self.configured()
        if self.seeds is not None:
            return self._sweep(config, self.seeds, console)
        folder = RunFolder(self.out or _default_path(config, f"seed{config.seed}"))
        if is_main_process():
            folder.refuse_if_present()
        return self._train(config, folder, console)

    def configured(self) -> RunConfig:
        """Return the configuration of a new run."""
        values: dict[str, Any] = {"method.name": self.method, "conformal.refresh": self.refresh}
        if self.inference is not None:
            values["inference"] = variants(self.inference)
        return self.configuration(seed=self.seed, epochs=self.epochs, **values)

    def _train(self, config: RunConfig | None, folder: RunFolder, console: Output) -> int:
        from cpsc_train.errors import DataError
        from cpsc_train.reporting.console import print_results
        from cpsc_train.training import RunConfig, resume, train

        observer = self._observer(console)
        try:
            results = resume(folder, observer, root=self.root) if config is None else train(config, folder, observer)
        except DataError as error:
            if config is not None and folder.path.exists():  # in a sample that was read after the start
                raise DataError(f"{error}: find all such files with cpsc data check", error.kind) from None
            raise
        except KeyboardInterrupt:
            console.print(
                f"\ninterrupted; to continue: cpsc train --resume {folder.path}; to evaluate it: "
                f"cpsc evaluate {folder.path}",
                soft_wrap=True,
            )
            raise
        finally:
            observer.close()
        if self.quiet:
            print_results(results, console, brief=True)
        console.print(f"{results['seconds']:.1f} s; everything is in {folder.path}", soft_wrap=True)
        if not self.quiet and is_main_process():
            moved = shared(self, ["root"]) if self.resume is not None else []
            noise = f"{results['data']['modalities'][0]}:all@1-5"
            data = RunConfig.from_plain(folder.read_config()).data
            print_next(
                console,
                ["cpsc", "report", folder.path],
                ["cpsc", "evaluate", folder.path, *moved, "--noise", noise],
                ["cpsc", "predict", folder.path, new_samples(data), "--out", "predictions.csv"],
            )
        return 0

    def _sweep(self, config: RunConfig, seeds: str, console: Output) -> int:
        from cpsc_train.experiments import Grid, console_table, parse_seeds
        from cpsc_train.experiments.executors import Local

        require_one_process("cpsc train --seeds")
        out = self.out or _default_path(config, "seeds")
        grid = Grid(out, {"default": config}, parse_seeds(seeds))
        results = grid.run(executor=Local(jobs=self.jobs), console=console, quiet=self.quiet)
        console.print(console_table(results))
        console.print(f"everything is in {out}", soft_wrap=True)
        if not self.quiet:
            print_next(console, ["cpsc", "report", out])
        return 0

    def _observer(self, console: Output) -> Observer:
        from cpsc_train.reporting import Observers
        from cpsc_train.reporting.console import ConsoleObserver
        from cpsc_train.reporting.log_file import LogFile
        from cpsc_train.reporting.trackers import tracker

        observers: list[Observer] = [] if self.quiet else [ConsoleObserver(console, verbose=self.verbose)]
        if self.log_file is not None and not console.quiet:
            observers.append(LogFile(self.log_file))
        if not console.quiet:
            observers += [tracker(name) for name in dict.fromkeys(self.track)]
        return Observers(observers)

    def _refuse_beside_resume(self) -> None:
        from cpsc_train.errors import UserError

        allowed = {"resume", "root", "modules", "log_file", "track", "quiet", "verbose"}
        changed = (f.name for f in fields(self) if getattr(self, f.name) != f.default)
        refused = next((name for name in changed if name not in allowed), None)
        if refused is not None:
            raise UserError(f"--resume uses the configuration of the run and cannot be combined with --{refused}")


def _default_path(config: RunConfig, seeds: str) -> Path:
    from datetime import datetime

    now = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.recipe}-{config.method.name}-{seeds}-{now}"
