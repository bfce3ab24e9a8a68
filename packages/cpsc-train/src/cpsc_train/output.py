"""The one place that commands write to a terminal, file or pipe from.

Text is never markup, its control characters are shown and not sent, and passwords in addresses are hidden. What becomes
of it when nobody reads it is decided here, too.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, NoReturn, TextIO

from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text

from cpsc_train.interrupts import OutputClosed
from cpsc_train.shown import shown


class Output(Console):
    """The terminal, file or pipe that a command writes to; all text is shown as it is.

    Parameters
    ----------
    quiet
        Whether nothing is written.
    file
        Where to; the standard output if absent.
    """

    def __init__(self, *, quiet: bool = False, file: TextIO | None = None) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, quiet=quiet, file=file)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return what is printed of a string, as every line, title and cell is."""
        return super().render_str(shown(text), **(options | {"markup": False, "emoji": False}))

    def on_broken_pipe(self) -> NoReturn:
        """End the command as an interrupt does, so that a run knows that it can go on."""
        discard()
        raise OutputClosed


def column(text: str, **options: Any) -> TextColumn:
    """Return a column of a progress bar whose text is no markup."""
    return TextColumn(text, markup=False, **options)


def complain(text: str, *, line: bool = False) -> None:
    """Write text to the standard error, as it may be shown; with `line`, ends of lines in it are shown as well."""
    print(shown(text.rstrip("\n"), line=line), file=sys.stderr)  # noqa: T201


def show_warning(  # noqa: PLR0917  # the signature of the one in whose place it is
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning as it may be shown, in place of `warnings.showwarning`."""
    complain(warnings.formatwarning(message, category, filename, lineno, line))


def discard() -> None:
    """Let the rest of the output go nowhere; Python writes what it has left when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
