"""Text of others as it is shown: on a terminal, in a log, in a report.

What comes from file names, lists, configurations and messages of libraries may hold control characters, which a
terminal obeys, and addresses with passwords.
"""

from __future__ import annotations

import re
import unicodedata

HIDDEN = "***"
"""Stands for a credential."""
_CREDENTIALS = re.compile(r"(\w\w:/{1,2})[^/\s?#@'\"]+@")
_QUERY = re.compile(r"(\w\w:/{1,2}[^\s?'\"]+)\?[^\s#'\"]+")
"""Also after one slash, which is what becomes of an address that is taken for a path."""
_CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: control and format characters, half characters, and ends of lines that are no newline."""
_JOINERS = "\u200c\u200d"
"""Format characters that words of several scripts, and emoji, are written with."""


def visible(text: object, *, line: bool = False) -> str:
    r"""Return text whose control characters are shown as escapes, such as ``\x1b``; newlines and tabs stay.

    Parameters
    ----------
    text
        What is shown.
    line
        Whether it must be one line: newlines are escaped, too.

    Examples
    --------
    >>> print(visible("a\x1b[31mb"), visible("a\nb", line=True))
    a\x1b[31mb a\nb
    """
    kept = _JOINERS if line else _JOINERS + "\n\t"
    return "".join(
        sign.encode("unicode_escape").decode() if unicodedata.category(sign) in _CONTROLS and sign not in kept else sign
        for sign in str(text)
    )


def without_credentials(text: str) -> str:
    """Return text in which user, password and query of each address are hidden.

    Examples
    --------
    >>> without_credentials("--root s3://key:secret@bucket/data")
    '--root s3://***@bucket/data'
    >>> without_credentials("https://host/data?X-Signature=1f")
    'https://host/data?***'
    """
    return _QUERY.sub(rf"\1?{HIDDEN}", _CREDENTIALS.sub(rf"\1{HIDDEN}@", text))


def shown(text: object, *, line: bool = False) -> str:
    """Return text as it may be shown: `visible`, and `without_credentials`."""
    return without_credentials(visible(text, line=line))
