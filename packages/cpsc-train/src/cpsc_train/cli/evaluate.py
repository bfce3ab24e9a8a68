"""``cpsc evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

EXAMPLES = """\
Measure the checkpoint of a run again, from its folder alone, and compare with its results.json.

  cpsc evaluate runs/A
"""


@tyro.conf.configure(tyro.conf.subcommand("evaluate", description=EXAMPLES))
@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure the checkpoint of a run again, from its folder alone, and compare with its results.json."""

    run_folder: tyro.conf.Positional[Path]
    """The run folder."""

    def run(self) -> int:
        """Evaluate, and return the exit code."""
        from rich.console import Console  # noqa: PLC0415  # heavy imports wait until there is work

        from cpsc_train.observability import RunFolder  # noqa: PLC0415
        from cpsc_train.observability.console import print_results  # noqa: PLC0415
        from cpsc_train.training import evaluate  # noqa: PLC0415

        folder = RunFolder(self.run_folder)
        results = evaluate(folder)
        console = Console(highlight=False)
        print_results(results, console)
        recorded = folder.read_results()
        if recorded is None:
            console.print("the run was not finished: there is no results.json to compare with")
        elif {key: recorded.get(key) for key in results} == results:
            console.print("identical to results.json, to the last digit")
        else:
            differing = [key for key in results if recorded.get(key) != results[key]]
            console.print(f"[bold]differs[/] from results.json in: {', '.join(differing)}")
        return 0
