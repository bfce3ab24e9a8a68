"""Text from elsewhere made safe to print, on a terminal, in a log or in a report.

File names, lists, configurations and messages of libraries may hold control characters, which a terminal obeys, and
addresses with passwords.
"""

from __future__ import annotations

import re
import unicodedata

HIDDEN = "***"
"""Stands for a credential."""
_CREDENTIALS = re.compile(r"(\w\w:/{1,2})[^/\s?#@'\"]+@")
_QUERY = re.compile(r"(\w\w:/{1,2}[^\s?'\"]+)\?[^\s#'\"]+")
"""Both also after one slash, the form of an address that was taken for a path."""
_CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of control and format characters, surrogates, and line ends other than the newline."""
_JOINERS = "\u200c\u200d"
"""Format characters that are part of words in several scripts, and of emoji."""


def visible(text: object, *, line: bool = False) -> str:
    r"""Return text with control characters as escapes, such as ``\x1b``; newlines and tabs stay.

    - `text`: text, or an object that is converted to it.
    - `line`: whether the result must be one line: newlines are escaped, too.

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


def printable(text: object, *, line: bool = False) -> str:
    """Return text that is `visible` and `without_credentials`."""
    return without_credentials(visible(text, line=line))
