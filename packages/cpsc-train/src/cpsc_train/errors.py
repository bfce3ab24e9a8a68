"""The one exception that means: the user can mend this; and what others said, in one line."""


class UserError(ValueError):
    """Wrong use or bad data; the message is one sentence that says what to mend.

    The command line prints it without a traceback and ends with exit code 2.
    """


class Terminated(KeyboardInterrupt):
    """The process was asked to end, as schedulers of clusters do."""


def reason(error: BaseException) -> str:
    """Return what an error of a library says, in one line that is never empty.

    Examples
    --------
    >>> reason(OSError(28, "No space left on device")), reason(KeyError("w")), reason(MemoryError())
    ('No space left on device', "KeyError: 'w'", 'MemoryError')
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, (RuntimeError, ValueError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
