"""Conversion between typed configurations and the plain tables of a TOML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from cpsc_train.config.choice import Choice, unknown
from cpsc_train.errors import UserError

T = TypeVar("T")

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
