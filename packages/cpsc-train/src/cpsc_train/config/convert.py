"""Between typed configurations and the plain tables of a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from cpsc_train.config.choice import Choice, unknown
from cpsc_train.errors import UserError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return `value` as nested dicts, lists and scalars; a `Choice` carries its ``name``, a ``None`` is left out."""
    if is_dataclass(value):
        named = {"name": value.name} if isinstance(value, Choice) else {}
        items = {field.name: getattr(value, field.name) for field in fields(value)}
        return named | {key: to_plain(item) for key, item in items.items() if item is not None}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], value: Any, *, path: str = "") -> T:
    """Build a `kind` from plain data.

    Parameters
    ----------
    kind
        A dataclass, a `Choice` family, or a type that holds them (``dict[str, kind]``, ``tuple[kind, ...]``).
    value
        What a TOML file holds.
    path
        Dotted place of `value` in the file, for messages.

    Raises
    ------
    UserError
        For an unknown key (names the closest), a missing key, or a value of the wrong type, by its dotted path.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Optimizer:
    ...     lr: float = 0.001
    >>> from_plain(Optimizer, {"lr": 1})
    Optimizer(lr=1.0)
    >>> from_plain(Optimizer, {"rl": 1})
    Traceback (most recent call last):
        ...
    cpsc_train.errors.UserError: unknown key 'rl'; did you mean 'lr'? (known: lr)
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Choice):
        return _choice(kind, _table(value, path), path)
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind, _table(value, path), path)
    if origin is dict:
        table = _table(value, path)
        return {key: from_plain(arguments[1], item, path=_join(path, key)) for key, item in table.items()}  # type: ignore[return-value]
    if origin is tuple and is_dataclass(arguments[0]) and isinstance(value, list):
        return tuple(from_plain(arguments[0], item, path=f"{path}[{i}]") for i, item in enumerate(value))  # type: ignore[return-value]
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {str(error)[0].lower()}{str(error)[1:]}, got {value!r}") from None


def _choice(family: type, table: Mapping[str, Any], path: str) -> Any:
    rest = dict(table)
    name = rest.pop("name", None)
    if not isinstance(name, str):
        known = ", ".join(sorted(family.members))  # type: ignore[attr-defined]
        raise UserError(f"{_join(path, 'name')} is missing: say which one (known: {known})")
    return _dataclass(family.named(name), rest, path)  # type: ignore[attr-defined]


def _dataclass(kind: type, table: Mapping[str, Any], path: str) -> Any:
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    for key in table:
        if key not in known:
            raise UserError(unknown("key", _join(path, key), [_join(path, name) for name in known]))
    values = {key: from_plain(hints[key], item, path=_join(path, key)) for key, item in table.items()}
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
