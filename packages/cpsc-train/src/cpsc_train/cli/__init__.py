"""The ``cpsc`` command. One file a sub-command; each is thin, and imports the heavy parts when it runs."""

from __future__ import annotations

import sys
import traceback

import tyro

from cpsc_train.cli.evaluate import Evaluate
from cpsc_train.cli.train import Train
from cpsc_train.errors import UserError

DESCRIPTION = """\
Train and evaluate multimodal classifiers with conformal predictive self-calibration.

  cpsc train                                   CPSC on the embedded data, about a minute on two cores
  cpsc train --method joint                    the plain baseline in the same harness
  cpsc train --modalities fou,zer,mor          other views of the same digits
  cpsc evaluate runs/NAME                      the tables of a run again, from its folder alone

Exit code 0: done. 2: wrong use or bad data. 130: interrupted. 1: our fault.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command = tyro.cli(
        Train | Evaluate,  # type: ignore[arg-type]  # a union of commands is what makes them sub-commands
        prog="cpsc",
        description=DESCRIPTION,
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    try:
        return command.run()
    except UserError as error:
        print(f"cpsc: error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except Exception:  # noqa: BLE001  # whatever else escapes is a defect of ours, and says so
        traceback.print_exc()
        print("cpsc: internal error: this is our fault; please report it with the lines above", file=sys.stderr)  # noqa: T201
        return 1
