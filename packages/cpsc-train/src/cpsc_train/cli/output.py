"""What commands write to, and what becomes of it when nobody reads it."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from rich.console import Console

from cpsc_train.interrupts import OutputClosed


class Output(Console):
    """The terminal, file or pipe that a command writes to.

    Parameters
    ----------
    quiet
        Whether nothing is written.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(highlight=False, quiet=quiet)

    def on_broken_pipe(self) -> NoReturn:
        """End the command as an interrupt does, so that a run knows that it can go on."""
        discard()
        raise OutputClosed


def discard() -> None:
    """Let the rest of the output go nowhere; Python writes what it has left when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
