"""Conversion between typed configurations, plain tables and TOML files, and changes by dotted key."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import tomli_w

from cpsc_train.config.choice import Choice, unknown
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


T = TypeVar("T")
C = TypeVar("C", bound=Choice)

ABSENT = "none"
"""Stands for None in a file, which has no such value, where the default is something else."""


def field_types(kind: type) -> dict[str, Any]:
    """Return the type of each field of a dataclass."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def to_plain(value: Any) -> Any:
    """Return nested dicts, lists and scalars; a `Choice` carries its ``name``, a None by default is left out."""
    if is_dataclass(value):
        named: dict[str, Any] = {"name": value.name} if isinstance(value, Choice) else {}
        items = {field: getattr(value, field.name) for field in fields(value)}
        plain = {field.name: to_plain(item) for field, item in items.items() if item is not None}
        absent = {f.name: ABSENT for f, item in items.items() if item is None and f.default is not None}
        return named | plain | absent
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], value: Any) -> T:
    """Build a `kind` from plain data.

    A `kind` is a dataclass, a `Choice` family, or a type that holds them (``dict[str, kind]``, ``tuple[kind, ...]``).
    Raises UserError for an unknown key (names the closest), a missing key, or a value of the wrong type, by its dotted
    path.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Optimizer:
    ...     lr: float = 0.001
    >>> from_plain(Optimizer, {"lr": 1})
    Optimizer(lr=1.0)
    >>> from_plain(Optimizer, {"lrr": 1})
    Traceback (most recent call last):
        ...
    cpsc_train.errors.UserError: unknown key 'lrr'; did you mean 'lr'? (known: lr)
    """
    result: T = _convert(kind, value, "")
    return result


def _convert(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Choice):
        return _choice(kind, _table(value, path), path)
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind, _table(value, path), path)
    if NoneType in arguments and str not in arguments and (value is None or value == ABSENT):
        return None
    if origin is dict:
        return {key: _convert(arguments[1], item, _join(path, key)) for key, item in _table(value, path).items()}
    by_item = origin is tuple and (is_dataclass(arguments[0]) or get_origin(arguments[0]) is Literal)
    if by_item and isinstance(value, list):
        return tuple(_convert(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    return _scalar(kind, value, path)


def _scalar(kind: Any, value: Any, path: str) -> Any:
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise UserError(f"{path} must be one of {', '.join(map(str, get_args(kind)))}, got {value!r}")
    try:
        return _within_reason(msgspec.convert(value, kind), path)
    except msgspec.ValidationError as error:
        rule = str(error).partition(",")[0].replace("Expected", "must be").replace("`", "")
        raise UserError(f"{path} {rule}, got {value!r}") from None


def _within_reason(value: Any, path: str) -> Any:
    """Return a value; refuse a number that no option allows before it reaches a library."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path} must be finite, got {value}")
    if isinstance(value, int) and path.endswith("seed") and not 0 <= value < 2**63:
        raise UserError(f"{path} must lie in [0, 2^63), got {value}")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise UserError(f"{path} must be below 2^63, got {value}")
    return value


def _choice(family: type[Choice], table: Mapping[str, Any], path: str) -> Any:
    options = dict(table)
    name = options.pop("name", None)
    if not isinstance(name, str):
        known = ", ".join(sorted(family.members))
        raise UserError(f"{_join(path, 'name')} is missing: say which one (known: {known})")
    return _dataclass(family.named(name), options, path)


def _dataclass(kind: Any, table: Mapping[str, Any], path: str) -> Any:
    known = field_types(kind)
    for key in table:
        if key not in known:
            raise UserError(unknown("key", _join(path, key), [_join(path, name) for name in known]))
    values = {key: _convert(known[key], item, _join(path, key)) for key, item in table.items()}
    try:
        return kind(**values)
    except TypeError as error:  # a required key is absent
        raise UserError(f"{path or 'configuration'}: {str(error).split(') ')[-1]}") from None


def _table(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{path or 'configuration'} must be a table, got {value!r}")
    return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


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


def parse_choice(family: type[C], text: str) -> C:
    """Read a member of a family from ``NAME`` or ``NAME:option=value:option=value``.

    A colon that no option follows is part of a value. Raises UserError for an unknown name or option, and a value that
    does not fit.
    """
    name, colon, options = text.partition(":")
    settings = re.split(r":(?=\w+=)", options) if colon else []
    try:
        return apply_settings(family.named(name)(), settings)
    except UserError as error:
        kind = family.__name__.removesuffix("Config").lower()
        raise UserError(f"{kind} {text!r}: {error}") from None


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
