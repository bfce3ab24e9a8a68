"""Output of the commands, to a terminal, file or pipe. No other module prints.

Text is never markup; its control characters are escaped, and passwords in addresses are hidden. A pipe that is closed
ends the command.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import Any, NoReturn, TextIO

from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text

from cpsc_train.interrupts import OutputClosed
from cpsc_train.printable import printable


class Output(Console):
    """A console that prints text literally.

    - `quiet`: whether to print nothing.
    - `file`: file to print to. If None, the standard output.
    """

    def __init__(self, *, quiet: bool = False, file: TextIO | None = None) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, quiet=quiet, file=file)

    @property
    def is_terminal(self) -> bool:
        """Whether the output is a terminal, whatever FORCE_COLOR says, which notebooks and build servers set."""
        return bool(getattr(self.file, "isatty", lambda: False)())

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a string; the base class does so for every line, title and cell."""
        return super().render_str(printable(text), **(options | {"markup": False, "emoji": False}))

    def on_broken_pipe(self) -> NoReturn:
        """End the command as an interrupt does, so that a run is marked as resumable."""
        discard_output()
        raise OutputClosed


def column(text: str, **options: Any) -> TextColumn:
    """Return a column of a progress bar without markup."""
    return TextColumn(text, markup=False, **options)


def print_error(text: str, *, line: bool = False) -> None:
    """Print text to the standard error; with `line`, on one line."""
    print(printable(text.rstrip("\n"), line=line), file=sys.stderr)  # noqa: T201


def show_warning(  # noqa: PLR0917  # the signature of what it replaces
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning, in place of `warnings.showwarning`."""
    print_error(warnings.formatwarning(message, category, filename, lineno, line))


def discard_output() -> None:
    """Send the output that is still buffered, which Python flushes at exit, to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(null, stream.fileno())
    os.close(null)


def is_closed_pipe(error: BaseException) -> bool:
    """Return whether an error says that the output pipe was closed; on Windows, that is an invalid argument."""
    if isinstance(error, (BrokenPipeError, OutputClosed)):
        return True
    invalid = isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename is None
    return sys.platform == "win32" and invalid
