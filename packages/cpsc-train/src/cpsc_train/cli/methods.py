"""``cpsc methods``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

EXAMPLES = """\
List the training methods, what each does, and where its equations come from; or the options of one.

  cpsc methods
  cpsc methods qmf
  cpsc train --method qmf --set method.ranking=1
"""

OPEN = {
    "eau": (
        "open: no public code was found, and the equations were not at hand",
        "Gao et al., Embracing Unimodal Aleatoric Uncertainty for Robust Multimodal Fusion, CVPR 2024",
    )
}
"""Methods that the field compares with and that are not here: by name, why, and the source."""


@tyro.conf.configure(tyro.conf.subcommand("methods", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Methods:
    """List the training methods, what each does, and where its equations come from; or the options of one."""

    method: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None
    """Show the options of this one."""

    def run(self) -> int:
        """Print, and return the exit code."""
        from rich.table import Table  # noqa: PLC0415

        from cpsc_train.errors import UserError  # noqa: PLC0415
        from cpsc_train.methods import MethodConfig  # noqa: PLC0415
        from cpsc_train.output import Output  # noqa: PLC0415  # heavy imports wait until there is work

        console = Output()
        if self.method is not None:
            if self.method in OPEN:
                raise UserError(f"{self.method} is {OPEN[self.method][0]}")
            _show(MethodConfig.named(self.method), console)
            return 0
        table = Table("method", "what it does", "source", box=None)
        for name, member in MethodConfig.members.items():
            about = " ".join((member.__doc__ or "").split("\n\n")[0].split())
            table.add_row(name, about, getattr(member, "source", ""))
        for name, (reason, source) in OPEN.items():
            table.add_row(name, reason, source)
        console.print(table)
        return 0


def _show(member, console) -> None:  # type: ignore[no-untyped-def]  # their types are heavy to import
    from dataclasses import fields  # noqa: PLC0415

    from rich.table import Table  # noqa: PLC0415

    from cpsc_train.config.choice import field_docs  # noqa: PLC0415
    from cpsc_train.methods import Range  # noqa: PLC0415

    console.print(f"{member.name}: {' '.join((member.__doc__ or '').split())}\n{member.source}\n", soft_wrap=True)
    about = field_docs(member)
    table = Table("option", "default", "cpsc tune", "", box=None)
    for field in fields(member):
        space = member.search.get(field.name, "")
        if isinstance(space, Range):
            space = f"{space.low:g} … {space.high:g}{', by factors' if space.log else ''}"
        elif isinstance(space, tuple):
            space = ", ".join(map(str, space))
        table.add_row(f"method.{field.name}", str(field.default), space, about.get(field.name, ""))
    console.print(table)
