"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """Wrong use or bad data; the message is one sentence that says what to mend.

    The command line prints it without a traceback and ends with exit code 2.
    """
