"""``cpsc methods``."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

EXAMPLES = """\
List the training methods, what each does, and where its equations come from.

  cpsc methods
  cpsc train --method qmf --set method.ranking=1
"""


@tyro.conf.configure(tyro.conf.subcommand("methods", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Methods:
    """List the training methods, what each does, and where its equations come from."""

    def run(self) -> int:
        """Print, and return the exit code."""
        from rich.console import Console  # noqa: PLC0415  # heavy imports wait until there is work
        from rich.table import Table  # noqa: PLC0415

        from cpsc_train.methods import MethodConfig  # noqa: PLC0415

        table = Table("method", "what it does", "source", box=None)
        for name, member in MethodConfig.members.items():
            about = " ".join((member.__doc__ or "").split("\n\n")[0].split())
            table.add_row(name, about, getattr(member, "source", ""))
        Console(highlight=False).print(table)
        return 0
