"""Families of named options: a data set, an encoder, a method is one frozen dataclass with a name."""

from __future__ import annotations

from difflib import get_close_matches
from typing import ClassVar, Self

from cpsc_train.config.plugins import load_plugin, plugin_names
from cpsc_train.errors import UserError


class Choice:
    """Base of a family of named options.

    A direct subclass opens a family; the class keyword ``plugins`` names the group of entry points that adds to it. Its
    subclasses have a ``name`` each and become members by `register`. In a configuration file a member is a table whose
    ``name`` key says which one it is; the other keys are its options.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> class Fruit(Choice):
    ...     pass
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Apple(Fruit, name="apple"):
    ...     sweetness: float = 0.5
    >>> Fruit.register(Apple)
    >>> Fruit.named("apple")().sweetness
    0.5
    """

    name: ClassVar[str] = ""
    members: ClassVar[dict[str, type[Choice]]]
    """The registered members by name; `installed` adds those of plug-ins."""
    plugins: ClassVar[str] = ""

    def __init_subclass__(cls, *, name: str = "", plugins: str = "") -> None:
        super().__init_subclass__()
        if Choice in cls.__bases__:
            cls.members, cls.plugins = {}, plugins
        elif name:
            cls.name = name

    @classmethod
    def register(cls, *members: type[Choice]) -> None:
        """Add members to the family; one with the name of another takes its place."""
        cls.members |= {member.name: member for member in members}

    @classmethod
    def installed(cls) -> dict[str, type[Self]]:
        """Return all members by name, those of plug-ins last.

        Raises
        ------
        UserError
            If a plug-in cannot be loaded.
        """
        return {name: cls.named(name) for name in [*cls.members, *plugin_names(cls.plugins)]}

    @classmethod
    def named(cls, name: str) -> type[Self]:
        """Return the member called `name`, loaded from a plug-in where it is not registered.

        Raises
        ------
        UserError
            If the family has no such member (names the closest one), or its plug-in cannot be loaded.
        """
        if name not in cls.members:
            offered = plugin_names(cls.plugins)
            if name not in offered:
                kind = cls.__name__.removesuffix("Config").lower()
                raise UserError(unknown(kind, name, [*cls.members, *offered]))
            cls.members[name] = load_plugin(cls.plugins, name, cls)
        return cls.members[name]  # type: ignore[return-value]  # members are subclasses of cls


def unknown(kind: str, got: str, known: list[str]) -> str:
    """Return the sentence for an unknown name: the name, the closest known one, all known ones."""
    close = get_close_matches(got, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {got!r}{hint} (known: {', '.join(sorted(known)) or 'none'})"
