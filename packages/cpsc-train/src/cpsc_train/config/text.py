"""Text of others, read into plain values: whatever is wrong with it is a ValueError.

The parsers call themselves at every bracket, and give up on a few hundred of them with an error that is meant for
programmers.
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

BOM = "\ufeff"
"""The byte-order mark, which editors of Windows put before a text."""


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds.

    Raises
    ------
    ValueError
        If it is not UTF-8, not JSON, or nested too deeply.

    Examples
    --------
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
        ...
    ValueError: nested too deeply
    """
    try:
        return json.loads(text.removeprefix(BOM) if isinstance(text, str) else text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    r"""Return what a TOML text holds.

    Raises
    ------
    ValueError
        If it is not TOML, or nested too deeply.

    Examples
    --------
    >>> parse_toml("lr = 0.1"), parse_toml("\ufefflr = 0.1")
    ({'lr': 0.1}, {'lr': 0.1})
    """
    try:
        return tomllib.loads(text.removeprefix(BOM))
    except RecursionError:
        raise ValueError("nested too deeply") from None
