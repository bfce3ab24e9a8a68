"""Rules of options, and families of named options, with members that other distributions register as entry points.

A data set, an encoder, a method is one frozen dataclass with a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, ClassVar, Self

from cpsc_train.errors import UserError, out_of_memory, reason


@dataclass(frozen=True)
class Rule:
    """A rule for the value of an option."""

    text: str
    """End of the error message, such as ``must not be negative``."""
    holds: Callable[[float], bool]
    """Whether a value obeys the rule."""


NOT_NEGATIVE = Rule("must not be negative", lambda value: value >= 0)
POSITIVE = Rule("must be positive", lambda value: value > 0)
COUNT = Rule("must be at least 1", lambda value: value >= 1)
DECAY = Rule("must lie in [0, 1)", lambda value: 0 <= value < 1)
FRACTION = Rule("must lie in (0, 1)", lambda value: 0 < value < 1)


class Options:
    """Base of options whose values have rules."""

    section: ClassVar[str] = ""
    """Start of their dotted keys, in error messages."""
    rules: ClassVar[Mapping[str, Rule]] = MappingProxyType({})
    """Rules by option; an option that is None has none."""

    def __post_init__(self) -> None:
        """Refuse a value that breaks its rule; a subclass checks rules about several options."""
        for option, rule in self.rules.items():
            value = getattr(self, option)
            try:
                holds = value is None or rule.holds(value)
            except TypeError:  # of another type
                holds = False
            if not holds:
                shown = repr(value) if isinstance(value, str) else value
                raise UserError(f"{self.section}.{option} {rule.text}, got {shown}".removeprefix("."))


class Choice(Options):
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
            cls.section = cls.section or name

    @classmethod
    def register(cls, *members: type[Choice]) -> None:
        """Add members to the family; one with the name of another takes its place."""
        cls.members |= {member.name: member for member in members}

    @classmethod
    def installed(cls) -> dict[str, type[Self]]:
        """Return all members by name, those of plug-ins last. Raises UserError if a plug-in cannot be loaded."""
        return {name: cls.named(name) for name in [*cls.members, *plugin_names(cls.plugins)]}

    @classmethod
    def named(cls, name: str) -> type[Self]:
        """Return the member called `name`, loaded from a plug-in where it is not registered.

        Raises UserError if the family has no such member (names the closest one), or its plug-in cannot be loaded.
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
    close = get_close_matches(str(got), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {got!r}{hint} (known: {', '.join(sorted(known)) or 'none'})"


def plugin_names(group: str) -> list[str]:
    """Return the names that installed distributions register in an entry-point group, without importing anything."""
    return sorted(entry_points(group=group).names) if group else []


def load_plugin(group: str, name: str, kind: type | None = None) -> Any:
    """Import the object that an entry point refers to.

    Raises UserError, which names the distribution and the entry point, if it cannot be imported, is no member of the
    family `kind` by its own name or, if `kind` is None, is not callable.
    """
    point = next(iter(entry_points(group=group, name=name)))
    try:
        plugin = point.load()
    except Exception as error:  # the module of another distribution can fail in any way
        if out_of_memory(error):
            raise
        raise _broken(point, f"cannot be loaded ({reason(error)})") from None
    if kind is None and not callable(plugin):
        raise _broken(point, f"must be callable, got {plugin!r}")
    if kind is not None and not (isinstance(plugin, type) and issubclass(plugin, kind)):
        raise _broken(point, f"must be a subclass of {kind.__name__}, got {plugin!r}")
    if kind is not None and plugin.name != name:
        raise _broken(point, f"must have the name {name!r}, got {plugin.name!r}")
    return plugin


def _broken(point: EntryPoint, what: str) -> UserError:
    owner = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
    return UserError(f"plug-in of {owner}: entry point {point.group}: {point.name} = {point.value} {what}")
