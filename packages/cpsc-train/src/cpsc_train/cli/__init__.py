"""The ``cpsc`` command. One file a command; each is thin, and imports the heavy parts when it runs."""

from __future__ import annotations

import errno
import io
import sys
import traceback
from contextlib import redirect_stderr
from functools import reduce
from operator import or_
from typing import Annotated, Any

import tyro

from cpsc_train.__about__ import __version__
from cpsc_train.cli.ablate import Ablate
from cpsc_train.cli.benchmark import Benchmark
from cpsc_train.cli.data import Data
from cpsc_train.cli.evaluate import Evaluate
from cpsc_train.cli.export import Export
from cpsc_train.cli.hints import keys_meant
from cpsc_train.cli.methods import Methods
from cpsc_train.cli.options import Command
from cpsc_train.cli.predict import Predict
from cpsc_train.cli.recipes import Recipes
from cpsc_train.cli.report import Report
from cpsc_train.cli.stream import Stream
from cpsc_train.cli.train import Train
from cpsc_train.cli.tune import Tune
from cpsc_train.errors import JobError, UserError, out_of_memory, reason
from cpsc_train.interrupts import OutputClosed, exit_code, pending_interrupt
from cpsc_train.launch import is_main_process
from cpsc_train.output import Output, discard_output, is_closed_pipe, print_error
from cpsc_train.printable import printable

DESCRIPTION = """\
Train and evaluate multimodal classifiers. COMMAND --help shows examples.
--version prints the version. Exit codes: 0 done; 2 wrong use or bad data;
1 internal error (a bug; please report it); 130, 141 or 143 interrupted.
"""
COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "evaluate": Evaluate,
    "predict": Predict,
    "stream": Stream,
    "report": Report,
    "recipes": Recipes,
    "methods": Methods,
    "data": Data,
    "ablate": Ablate,
    "benchmark": Benchmark,
    "tune": Tune,
    "export": Export,
}
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE}
"""Errors of a machine without room, permission or files left, which are not defects of this package."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    code = 0
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()  # here, where a closed pipe or a full device can still be handled
    except (OSError, OutputClosed) as error:
        if is_closed_pipe(error):
            discard_output()
            return exit_code(OutputClosed())
        if not isinstance(error, OSError) or not (sentence := _explained(error)):
            raise
        discard_output()
        return code or _say(f"error: {sentence}", 2)
    return code


def _run(arguments: list[str]) -> int:
    try:
        if arguments == ["--version"]:
            Output().print(f"cpsc-train {__version__}")
            return 0
        return _command(arguments).execute()
    except OutputClosed:
        raise
    except KeyboardInterrupt as stop:
        return _say("interrupted", exit_code(stop))
    except Exception as error:
        if is_closed_pipe(error):
            raise
        stop_signal = pending_interrupt()
        if stop_signal is not None:  # a library, or another process, can turn an interrupt into any error
            return _say("interrupted", exit_code(stop_signal))
        if sentence := _explained(error):
            return _say(f"error: {sentence}", 2, everyone=isinstance(error, JobError))
        print_error(traceback.format_exc())
        return _say("internal error: this is a bug; please report it with the lines above", 1)


def _explained(error: Exception) -> str:
    """Return what the user can do about an error; empty for a defect of this package."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in REFUSED:
        return f"{error.filename or 'output'}: {reason(error)}"
    if out_of_memory(error):
        return f"out of memory ({reason(error)}): free some, or raise the limit of this process"
    return ""


def _command(arguments: list[str]) -> Command:
    """Parse the command line; an error message shows its arguments as `printable` does."""
    safe = [printable(argument, line=True) for argument in arguments]
    if safe == arguments:
        return parse(arguments)
    try:
        with redirect_stderr(io.StringIO()):
            return parse(arguments)
    except SystemExit as stop:
        if not stop.code:  # help
            raise
    parse(safe)
    raise UserError("the command line must not contain control characters")


def parse(arguments: list[str]) -> Command:
    """Parse the command line. Raises SystemExit after help (code 0), or a message that says what is wrong (code 2)."""
    name = arguments[0] if arguments else ""
    try:
        if name not in COMMANDS:  # help, or a mistake
            lines = {name: tyro.conf.subcommand(name, description=kind.__doc__) for name, kind in COMMANDS.items()}
            kinds = (Annotated[kind, lines[name]] for name, kind in COMMANDS.items())
            return _cli(reduce(or_, kinds), "cpsc", DESCRIPTION, arguments)
        kind = COMMANDS[name]
        return _cli(kind, f"cpsc {name}", f"{kind.__doc__}\n\n{kind.examples}", arguments[1:])
    except SystemExit as stop:
        sys.stdout.flush()
        for key in keys_meant(COMMANDS[name], arguments[1:]) if stop.code and name in COMMANDS else ():
            print_error(f"cpsc: to change {key}, use --set {key}=VALUE", line=True)
        raise


def _cli(kind: Any, prog: str, description: str, arguments: list[str]) -> Command:
    settings = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)
    command: Command = tyro.cli(kind, prog=prog, description=description, args=arguments, config=settings)
    return command


def _say(what: str, code: int, *, everyone: bool = False) -> int:
    if everyone or is_main_process():  # of several processes one does
        print_error(f"cpsc: {what}", line=True)
    return code
