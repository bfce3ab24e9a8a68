"""Changes of single values of a typed configuration, by dotted key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from cpsc_train.config.choice import Choice, unknown
from cpsc_train.config.convert import ABSENT, field_types, from_plain, to_plain
from cpsc_train.config.text import parse_toml
from cpsc_train.errors import UserError

T = TypeVar("T")
BARE_POINT = re.compile(r"[+-]?(\.\d+|\d+\.)(e[+-]?\d+)?", re.IGNORECASE)
"""A number whose point lacks a digit before or after it."""


def override(config: T, values: Mapping[str, Any]) -> T:
    """Return a copy of a configuration in which each dotted key has another value.

    Another ``name`` selects another member of a family, which starts with its defaults: set its options after it.
    Raises UserError if a key is unknown (names the closest one), or a value does not fit.

    Examples
    --------
    >>> from cpsc_train.recipes import recipe
    >>> config = override(recipe("handwritten"), {"method.name": "qmf", "method.ranking": 0.5, "epochs": 3})
    >>> config.method.name, config.method.ranking, config.epochs
    ('qmf', 0.5, 3)
    """
    table = to_plain(config)
    for key, value in values.items():
        place, last, _ = _find(type(config), table, key)
        _put(place, last, ABSENT if value is None else to_plain(value))
    return from_plain(type(config), table)


def apply_settings(config: T, settings: Iterable[str]) -> T:
    """Return a copy of a configuration with ``dotted.key=value`` settings, each read by the type of its field.

    Text for a field that holds text is taken as it is, or without the quotes around it. For any other field it is TOML,
    or ``none`` where the value may be absent. Raises UserError if a setting has no ``=``, its key is unknown (names the
    closest one), or its value does not fit.

    Examples
    --------
    >>> from cpsc_train.recipes import recipe
    >>> config = apply_settings(recipe("crema-d"), ["data.root=2024", "epochs=3"])
    >>> config.data.root, config.epochs
    ('2024', 3)
    """
    table = to_plain(config)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UserError(f"a setting must read key=value, got {setting!r}")
        if not _is_utf8(setting):
            raise UserError(f"a setting must be UTF-8, got {setting!r}")
        place, last, kind = _find(type(config), table, key.strip())
        _put(place, last, _read(kind, text))
    return from_plain(type(config), table)


def _find(kind: Any, table: dict[str, Any], key: str) -> tuple[dict[str, Any], str, Any]:
    """Return the table that a dotted key leads to, the last part of the key, and the type of its value."""
    parts = key.split(".")
    for depth, part in enumerate(parts[:-1]):
        path = ".".join(parts[: depth + 1])
        kind, before = _field(kind, table, part, path), kind
        if get_origin(before) is dict and part not in table and parts[depth + 1] != "name":
            raise UserError(unknown("key", path, [".".join([*parts[:depth], name]) for name in table]))
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"{key}: {path} is a value, not a table")
    return table, parts[-1], _field(kind, table, parts[-1], key)


def _field(kind: Any, table: Mapping[str, Any], name: str, path: str) -> Any:
    """Return the type of the entry `name` of a table that becomes a `kind`."""
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if isinstance(kind, type) and issubclass(kind, Choice):
        if name == "name":
            return str
        kind = kind.named(str(table.get("name", "")))
    known = field_types(kind) if isinstance(kind, type) and is_dataclass(kind) else {}
    if name not in known:
        above = path.rpartition(".")[0]
        raise UserError(unknown("key", path, [f"{above}.{other}".lstrip(".") for other in known]))
    return known[name]


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    if key == "name" and value != table.get("name"):
        table.clear()
    table[key] = value


def _read(kind: Any, text: str) -> Any:
    """Parse text as TOML, or as a number such as .1, which TOML lacks; return the text unchanged if it is neither."""
    kinds = set(get_args(kind)) - {NoneType} or {kind}
    if get_origin(kind) is Literal:
        kinds = {type(option) for option in get_args(kind)}
    if kinds == {str} and text[:1] not in {'"', "'"}:
        return text
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return float(text) if float in kinds and BARE_POINT.fullmatch(text.strip()) else text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte of the command line that is not UTF-8
        return False
    return True
