"""``cpsc train``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from cpsc_train.training import RunConfig


EXAMPLES = """\
Train a model, select the epoch on validation rows, and evaluate it once on the test rows.

  cpsc train                            CPSC, embedded data
  cpsc train --method joint --seed 1    the plain baseline
  cpsc train --modalities fou,zer,mor   other views
  cpsc train --set method.top_k=5       any option
  cpsc train --config runs/A/config.toml
"""


@tyro.conf.configure(tyro.conf.subcommand("train", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model, select the epoch on validation rows, and evaluate it once on the test rows."""

    recipe: Annotated[str, tyro.conf.arg(metavar="NAME")] = "handwritten"
    """The configuration to start from."""
    method: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Training method: cpsc, joint or joint-unimodal; the recipe's own if absent."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Seed of the parameters and the batch order."""
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
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print the final tables only."""

    def run(self) -> int:
        """Train, and return the exit code."""
        from rich.console import Console  # noqa: PLC0415  # heavy imports wait until there is work

        from cpsc_train.observability import Observer, RunFolder  # noqa: PLC0415
        from cpsc_train.observability.console import ConsoleObserver, print_results  # noqa: PLC0415
        from cpsc_train.training import train  # noqa: PLC0415

        config = self._resolve()
        folder = RunFolder(self.out or _default_path(config))
        folder.refuse_if_present()
        console = Console(highlight=False)
        observer = Observer() if self.quiet else ConsoleObserver(console)
        try:
            results = train(config, folder, observer)
        except KeyboardInterrupt:
            console.print(f"\ninterrupted; what is there so far: cpsc evaluate {folder.path}")
            return 130
        finally:
            if isinstance(observer, ConsoleObserver):
                observer.close()
        if self.quiet:
            print_results(results, console)
        console.print(f"{results['seconds']:.1f} s; everything is in {folder.path}")
        return 0

    def _resolve(self) -> RunConfig:
        from cpsc_train.config import apply_overrides, read_toml  # noqa: PLC0415
        from cpsc_train.errors import UserError  # noqa: PLC0415
        from cpsc_train.recipes import recipe  # noqa: PLC0415
        from cpsc_train.training import RunConfig  # noqa: PLC0415

        if self.config is None:
            modalities = None if self.modalities is None else tuple(self.modalities.split(","))
            base = recipe(self.recipe, modalities=modalities)
        elif self.modalities is None:
            base = RunConfig.from_plain(read_toml(self.config))
        else:
            raise UserError(
                "--modalities belongs to a recipe; with --config, set data.modalities and encoders in the file"
            )
        changes = {"seed": self.seed, "epochs": self.epochs}
        base = replace(base, **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]
        method = [] if self.method is None else [f"method.name={self.method}"]
        return RunConfig.from_plain(apply_overrides(base.to_plain(), [*method, *self.set]))


def _default_path(config: RunConfig) -> Path:
    from datetime import datetime  # noqa: PLC0415

    now = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.recipe}-{config.method.name}-seed{config.seed}-{now}"
