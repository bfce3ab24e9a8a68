"""Rules for the values of options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from cpsc_train.errors import UserError


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
            if value is not None and not rule.holds(value):
                raise UserError(f"{self.section}.{option} {rule.text}, got {value}".removeprefix("."))
