"""The ``cpsc`` command. One file a sub-command; each is thin, and imports the heavy parts when it runs."""

from __future__ import annotations

import os
import sys
import traceback

import tyro

from cpsc_train.cli.ablate import Ablate
from cpsc_train.cli.benchmark import Benchmark
from cpsc_train.cli.data import Data
from cpsc_train.cli.evaluate import Evaluate
from cpsc_train.cli.export import Export
from cpsc_train.cli.methods import Methods
from cpsc_train.cli.recipe import Recipe
from cpsc_train.cli.report import Report
from cpsc_train.cli.stream import Stream
from cpsc_train.cli.train import Train
from cpsc_train.cli.tune import Tune
from cpsc_train.errors import UserError

DESCRIPTION = """\
Train and evaluate multimodal classifiers with conformal predictive self-calibration.

Exit code 0: done. 2: wrong use or bad data. 130 or 143: interrupted. 1: our fault.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command = tyro.cli(
        Train | Evaluate | Stream | Report | Recipe | Methods | Data | Ablate | Benchmark | Tune | Export,
        prog="cpsc",
        description=DESCRIPTION,
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    try:
        return command.run()
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            print(f"cpsc: error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("cpsc: interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except Exception:  # whatever else escapes is a defect of ours, and says so
        traceback.print_exc()
        print("cpsc: internal error: this is our fault; please report it with the lines above", file=sys.stderr)  # noqa: T201
        return 1
