"""Families of named options: a data set, an encoder, a method is one frozen dataclass registered under its name."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import textwrap
from difflib import get_close_matches
from types import ModuleType
from typing import ClassVar, Self

from cpsc_train.errors import UserError


class Choice:
    """Base of a family of named options.

    A direct subclass opens a family; its subclasses are the members, registered by the class keyword ``name``. In a
    configuration file a member is a table whose ``name`` key says which one it is; the other keys are its options.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> class Fruit(Choice):
    ...     pass
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Apple(Fruit, name="apple"):
    ...     sweetness: float = 0.5
    >>> Fruit.named("apple")().sweetness
    0.5
    """

    name: ClassVar[str] = ""
    members: ClassVar[dict[str, type[Choice]]]

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        super().__init_subclass__()
        if Choice in cls.__bases__:
            cls.members = {}
        elif name is not None:
            cls.name = name
            cls.members[name] = cls

    @classmethod
    def named(cls, name: str) -> type[Self]:
        """Return the member called `name`.

        Raises
        ------
        UserError
            If the family has no such member; names the closest one.
        """
        if name not in cls.members:
            kind = cls.__name__.removesuffix("Config").lower()
            raise UserError(unknown(kind, name, list(cls.members)))
        return cls.members[name]  # type: ignore[return-value]  # only subclasses of cls enter cls.members


def field_docs(kind: type) -> dict[str, str]:
    """Return by field of a class the string that stands below it in the source; on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            text = ast.literal_eval(after.value)
            found[field.target.id] = " ".join(text.split())
    return found


def unknown(kind: str, got: str, known: list[str]) -> str:
    """Return the sentence for an unknown name: what was got, the closest known one, all known ones."""
    close = get_close_matches(got, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {got!r}{hint} (known: {', '.join(sorted(known)) or 'none'})"


def discover(package: ModuleType) -> None:
    """Import every module of `package`, so that a new member is one new file and no list is kept anywhere."""
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
