"""One writer a folder, for as long as its process lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cpsc_train.errors import UserError
from cpsc_train.writing import TAKEN, appending

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out
    fcntl = None  # type: ignore[assignment]

FILE = ".lock"


@contextmanager
def held(folder: Path, *, busy: str = "training in it") -> Iterator[None]:
    """Keep other processes from writing into `folder`; a kill lets go, and no worker holds on.

    Parameters
    ----------
    folder
        Which must exist.
    busy
        What the other process is doing, for the message.

    Raises
    ------
    UserError
        If another process writes into it, or nobody can.
    """
    if fcntl is None:
        yield
        return
    with appending(folder / FILE) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                raise UserError(
                    f"{folder}: another process is {busy}: wait for its end, or choose another folder"
                ) from None
            # Some network file systems have no locks; a run is worth more than a guard.
        yield
