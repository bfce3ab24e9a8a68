"""JSON and TOML, read into plain values and written.

The parsers recurse at every bracket, and fail after a few hundred of them with an error meant for programmers.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from cpsc_train.errors import UserError
from cpsc_train.printable import without_credentials
from cpsc_train.reading import read_file
from cpsc_train.writing import write

BOM = "\ufeff"
"""The byte-order mark, which editors of Windows put before a text."""


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text. Raises ValueError if it is not UTF-8, not JSON, or nested too deeply.

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
    r"""Parse a TOML text. Raises ValueError if it is not TOML, or nested too deeply.

    Examples
    --------
    >>> parse_toml("lr = 0.1"), parse_toml("\ufefflr = 0.1")
    ({'lr': 0.1}, {'lr': 0.1})
    """
    try:
        return tomllib.loads(text.removeprefix(BOM))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises UserError if the file is missing, not UTF-8, or not TOML; names the file and, where known, the line.
    """
    try:
        return parse_toml(read_file(path).decode("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UserError:
        raise
    except UnicodeDecodeError:
        raise UserError(f"{path}: must be UTF-8; save it as that") from None
    except ValueError as error:
        raise UserError(f"{path}: is not a valid TOML file: {error}") from None


def write_toml(path: Path, table: dict[str, Any]) -> None:
    """Write a TOML file; a file with a password or query in an address is readable only by the user.

    Raises UserError if it cannot be written.
    """
    text = tomli_w.dumps(table)
    write(path, text, private=without_credentials(text) != text)
