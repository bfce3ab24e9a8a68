"""Errors that the user can fix, and messages of other errors in one line."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Wrong use or bad data; the message is one sentence that says how to fix it.

    The command line prints it without a traceback and exits with code 2.
    """


class DataError(UserError):
    """A file, or a line of one, that cannot be used.

    - `message`: as of any `UserError`; names the file.
    - `kind`: category, in one to three words: the row of the table that ``cpsc data check`` prints.
    """

    def __init__(self, message: str, kind: str = "damaged") -> None:
        super().__init__(message)
        self.kind = kind
        self.modalities: tuple[str, ...] = ()
        """The affected modalities, if known."""


class JobError(UserError):
    """An error of this process of a job and not of the first, or another process has died or hangs.

    Every process prints this error; the first alone prints others.
    """


def reason(error: BaseException) -> str:
    """Return the message of an error of a library in one line that is never empty, without addresses of objects.

    Examples
    --------
    >>> reason(ValueError("cannot identify image file <_io.BytesIO object at 0x7ff45e7b6e30>"))
    'cannot identify image file'
    >>> reason(OSError(28, "No space left on device")), reason(KeyError("w")), reason(MemoryError())
    ('No space left on device', "KeyError: 'w'", 'MemoryError')
    """
    message = getattr(error, "strerror", None)
    if isinstance(message, str) and message:
        return message
    text = re.sub(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>", "", next(iter(str(error).splitlines()), ""))
    if isinstance(error, (RuntimeError, ValueError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_NO_MEMORY = re.compile(
    r"not enough memory|allocate memory|bad_alloc|failed to map segment|can't start new thread"
    r"|could not (create|execute) a primitive$"  # of oneDNN, which does not name the cause
)
"""Messages of the errors that libraries raise if memory or the address space is exhausted."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error of any library means that memory ran out.

    Examples
    --------
    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("std::bad_alloc")), out_of_memory(ValueError("no"))
    (True, True, False)
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, (RuntimeError, ImportError)) and _NO_MEMORY.search(str(error)) is not None


@contextmanager
def needs(package: str, *, extra: str) -> Iterator[None]:
    """Explain how to install an optional package that is imported inside. Raises UserError if it is not installed."""
    try:
        yield
    except ImportError as error:
        if out_of_memory(error):
            raise
        raise UserError(f'{package} is not installed: pip install "cpsc-train[{extra}]"') from None
