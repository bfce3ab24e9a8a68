"""``cpsc recipe``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

EXAMPLES = """\
List the recipes, or show every value of one, and where it comes from, as a TOML file.

  cpsc recipe list
  cpsc recipe show handwritten
  cpsc recipe show crema-d --mode released
  cpsc recipe show crema-d > mine.toml       then: cpsc train --config mine.toml
"""


@tyro.conf.configure(tyro.conf.subcommand("recipe", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """List the recipes, or show every value of one, and where it comes from, as a TOML file."""

    action: tyro.conf.Positional[Literal["list", "show"]]
    """What to do."""
    name: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[NAME]")]] = None
    """The recipe to show."""
    mode: Annotated[Literal["ours", "paper", "released"], tyro.conf.arg(metavar="MODE")] = "ours"
    """Whose reading of CPSC: ours, the paper's to the letter (paper), or that of the authors' code (released)."""

    def run(self) -> int:
        """Print, and return the exit code."""
        from rich.table import Table  # noqa: PLC0415

        from cpsc_train.errors import UserError  # noqa: PLC0415
        from cpsc_train.output import Output  # noqa: PLC0415  # heavy imports wait until there is work
        from cpsc_train.recipes import RECIPES, annotated, recipe  # noqa: PLC0415

        if self.action == "show":
            if self.name is None:
                raise UserError(f"cpsc recipe show needs a name, one of {', '.join(sorted(RECIPES))}")
            Output().print(annotated(self.name, mode=self.mode), end="", soft_wrap=True)
            return 0
        table = Table("recipe", "modalities", "encoders", "data", box=None)
        for name in RECIPES:
            config = recipe(name)
            encoders = " + ".join(encoder.name for encoder in config.encoders.values())
            root = getattr(config.data, "root", None)
            table.add_row(name, " + ".join(config.data.modalities), encoders, "embedded" if root is None else "--root")
        Output().print(table)
        return 0
