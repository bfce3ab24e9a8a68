"""``cpsc methods``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from cpsc_train.cli.options import Command, Name, about, option_table

if TYPE_CHECKING:
    from cpsc_train.methods import MethodConfig

UNIT = ", times the epochs"
"""Follows a range whose ends are fractions of the epochs of a run."""


@dataclass(frozen=True, kw_only=True)
class Methods(Command):
    """List the training methods, or show the options of one."""

    examples: ClassVar[str] = """\
  cpsc methods list
  cpsc methods show qmf
  cpsc train --method qmf --set method.ranking=1
"""

    action: Annotated[Literal["list", "show"], tyro.conf.Positional] = "list"
    """Action."""
    name: Name = None
    """Method to show."""

    def run(self) -> int:
        from rich.table import Table

        from cpsc_train.methods import MethodConfig
        from cpsc_train.output import Output

        console = Output()
        if self.action == "show":
            name = self.required("methods show", self.name, MethodConfig.members)
            member = MethodConfig.named(name)
            console.print(f"{name}: {about(member, whole=True)}\n{member.source}\n", soft_wrap=True)
            console.print(option_table("method", member, {"cpsc tune": _searched(member)}))
            return 0
        table = Table("method", "what it does", "source", box=None)
        for name, method in MethodConfig.installed().items():
            table.add_row(name, about(method), method.source)
        console.print(table)
        return 0


def _searched(member: type[MethodConfig]) -> dict[str, str]:
    return {
        option: ", ".join(map(str, space))
        if isinstance(space, tuple)
        else f"{space.low:g} … {space.high:g}{', logarithmic' if space.log else ''}{UNIT if space.share else ''}"
        for option, space in member.search.items()
    }
