"""``cpsc recipes``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

from cpsc_train.cli.options import Command, Mode, Name


@dataclass(frozen=True, kw_only=True)
class Recipes(Command):
    """List the recipes, or show one as a TOML file."""

    examples: ClassVar[str] = """\
The file has every value of the recipe, and where it comes from.

  cpsc recipes list
  cpsc recipes show handwritten
  cpsc recipes show crema-d --mode released
  cpsc recipes show crema-d > mine.toml       then: cpsc train --config mine.toml
"""

    action: Annotated[Literal["list", "show"], tyro.conf.Positional] = "list"
    """Action."""
    name: Name = None
    """Recipe to show."""
    mode: Mode = "ours"
    """Variant of CPSC: ours, paper (literal) or released."""

    def run(self) -> int:
        from rich.table import Table

        from cpsc_train.output import Output
        from cpsc_train.recipes import annotated, names, recipe

        if self.action == "show":
            text = annotated(self.required("recipes show", self.name, names()), mode=self.mode)
            Output().print(text, end="", soft_wrap=True)
            return 0
        table = Table("recipe", "modalities", "encoders", "data", box=None)
        for name in names():
            config = recipe(name)
            encoders = " + ".join(encoder.name for encoder in config.encoders.values()) or "by kind"
            modalities = " + ".join(config.data.modalities) or "detected"
            root = getattr(config.data, "root", None)
            table.add_row(name, modalities, encoders, "embedded" if root is None else "--root")
        Output().print(table)
        return 0
