"""The ``cpsc`` command. One file a sub-command; each is thin, and imports the heavy parts when it runs."""

from __future__ import annotations

import errno
import io
import sys
import traceback
from contextlib import redirect_stderr
from typing import Protocol

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
from cpsc_train.errors import JobError, UserError, out_of_memory, reason
from cpsc_train.interrupts import OutputClosed, exit_code, told_to_end
from cpsc_train.launch import speaks
from cpsc_train.output import complain, discard
from cpsc_train.shown import shown

DESCRIPTION = """\
Train and evaluate multimodal classifiers with conformal predictive self-calibration.

Exit code 0: done. 2: wrong use or bad data. 130, 141 or 143: interrupted. 1: internal error.
"""
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE}
"""What a machine says that has no room, no permission or no file left: nothing that we could do better."""


class Command(Protocol):
    """A sub-command with its options."""

    def run(self) -> int:
        """Run, and return the exit code."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = _run(arguments)
        sys.stdout.flush()  # here, where somebody hears that nobody reads it
    except (BrokenPipeError, OutputClosed):
        discard()
        return exit_code(OutputClosed())
    return code


def _run(arguments: list[str] | None) -> int:
    try:
        return _command(arguments).run()
    except (BrokenPipeError, OutputClosed):
        raise
    except KeyboardInterrupt as stop:
        return _say("interrupted", exit_code(stop))
    except Exception as error:
        told = told_to_end()
        if told is not None:  # what becomes of an interrupt inside a library, or in another process, can be anything
            return _say("interrupted", exit_code(told))
        if sentence := _explained(error):
            return _say(f"error: {sentence}", 2, everyone=isinstance(error, JobError))
        complain(traceback.format_exc())  # whatever else escapes is a defect of ours, and says so
        return _say("internal error: this is a bug; please report it with the lines above", 1)


def _explained(error: Exception) -> str:
    """Return what the user can do something about; nothing of a defect of this package."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in REFUSED:
        return f"{error.filename or 'output'}: {reason(error)}"
    if out_of_memory(error):
        return f"out of memory ({reason(error)}): free some, or raise the limit of this process"
    return ""


def _command(arguments: list[str] | None) -> Command:
    """Return what the command line asks for; where it is wrong, the message shows its arguments as `shown` does."""
    given = sys.argv[1:] if arguments is None else arguments
    safe = [shown(argument, line=True) for argument in given]
    if safe == given:
        return _parse(given)
    try:
        with redirect_stderr(io.StringIO()):
            return _parse(given)
    except SystemExit as stop:
        if not stop.code:  # help
            raise
    _parse(safe)
    raise UserError("the command line cannot be read: it holds control characters")


def _parse(arguments: list[str]) -> Command:
    try:
        return tyro.cli(
            Train | Evaluate | Stream | Report | Recipe | Methods | Data | Ablate | Benchmark | Tune | Export,
            prog="cpsc",
            description=DESCRIPTION,
            args=arguments,
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except SystemExit:  # help was asked for, or the command line is wrong, and that has been said
        sys.stdout.flush()
        raise


def _say(what: str, code: int, *, everyone: bool = False) -> int:
    if everyone or speaks():  # of several processes one does
        complain(f"cpsc: {what}", line=True)
    return code
