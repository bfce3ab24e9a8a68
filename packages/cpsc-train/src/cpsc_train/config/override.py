"""TOML files, and ``key=value`` on top of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w

from cpsc_train.config.text import parse_toml
from cpsc_train.errors import UserError
from cpsc_train.reading import read_file
from cpsc_train.shown import without_credentials
from cpsc_train.writing import write


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    UserError
        If the file is missing, not UTF-8, or not TOML; names the file and, where known, the line.
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
    """Write `table` as TOML; where it holds an address with a password or a query, for the user's eyes only.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    text = tomli_w.dumps(table)
    write(path, text, private=without_credentials(text) != text)


def apply_overrides(table: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `table` with each ``dotted.key=value`` set.

    A value is read as TOML; what is not TOML is taken as text, so that ``method.divergence=js`` needs no quotes.
    Whether the key exists and the value fits is decided where the table becomes a typed configuration. Another ``name``
    chooses another member of a family, so the options of the former one go; give the new one's options after it.

    Raises
    ------
    UserError
        If an item has no ``=``, or its key leads through a value that is not a table.

    Examples
    --------
    >>> apply_overrides({"optimizer": {"lr": 0.1}}, ["optimizer.lr=0.01", "optimizer.kind=sgd"])
    {'optimizer': {'lr': 0.01, 'kind': 'sgd'}}
    >>> apply_overrides({"method": {"name": "cpsc", "top_k": 3}}, ["method.name=joint"])
    {'method': {'name': 'joint'}}
    """
    result = _copy(table)
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise UserError(f"an override must read key=value, got {item!r}")
        if not _is_text(item):  # such as a byte of the command line that is not UTF-8
            raise UserError(f"an override must be UTF-8, got {item!r}")
        *parents, last = key.strip().split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"override {item!r}: {parent!r} is a value, not a table")
        value = _value(text)
        if last == "name" and value != place.get("name"):
            place.clear()
        place[last] = value
    return result


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def _is_text(item: str) -> bool:
    try:
        item.encode()
    except UnicodeEncodeError:
        return False
    return True


def _copy(table: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(item) if isinstance(item, dict) else item for key, item in table.items()}
