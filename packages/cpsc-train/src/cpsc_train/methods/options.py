"""Options of a method: their rules, their scaling with the length of a run, and the ranges of a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Self

from cpsc_train.config import Choice
from cpsc_train.errors import UserError
from cpsc_train.methods.base import Method
from cpsc_train.models import MultimodalClassifier


@dataclass(frozen=True)
class Rule:
    """A rule for the value of an option.

    Parameters
    ----------
    text
        The end of the error message: ``must not be negative``.
    holds
        Whether a value keeps the rule.
    """

    text: str
    holds: Callable[[float], bool]


NOT_NEGATIVE = Rule("must not be negative", lambda value: value >= 0)
POSITIVE = Rule("must be positive", lambda value: value > 0)
COUNT = Rule("must be at least 1", lambda value: value >= 1)
DECAY = Rule("must lie in [0, 1)", lambda value: 0 <= value < 1)


@dataclass(frozen=True)
class Range:
    """Range of a search, ends included; whole numbers if both ends are.

    Parameters
    ----------
    low, high
        The ends.
    log
        Whether the search is uniform in the logarithm.
    """

    low: float
    high: float
    log: bool = False


class MethodConfig(Choice, plugins="cpsc_train.methods"):
    """Options of a method."""

    method: ClassVar[type[Method]]
    """The method with these options."""
    source: ClassVar[str] = ""
    """Source of the equations."""
    shares: ClassVar[Mapping[str, float]] = MappingProxyType({})
    """Options that count epochs, as a fraction of the epochs of a run."""
    rules: ClassVar[Mapping[str, Rule]] = MappingProxyType({})
    """Rules by option."""
    search: ClassVar[Mapping[str, Range | tuple[str | bool, ...]]] = MappingProxyType({})
    """Options searched by ``cpsc tune``, with their ranges or values."""

    def __post_init__(self) -> None:
        """Refuse a value that breaks its rule; a subclass checks rules about several options."""
        for option, rule in self.rules.items():
            value = getattr(self, option)
            if not rule.holds(value):
                raise UserError(f"method.{option} {rule.text}, got {value}")

    @classmethod
    def for_epochs(cls, epochs: int) -> Self:
        """Return the defaults for a run of `epochs`, with the options in `shares` scaled to it.

        Defaults are those of the source, for the source's number of epochs; in a shorter run they may never apply.
        """
        return cls(**{name: max(1, round(share * epochs)) for name, share in cls.shares.items()})

    @property
    def needs_full_refresh(self) -> bool:
        """Whether all calibration samples must be scored at once, which ``exact`` and ``rolling`` do not do."""
        return False

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...]) -> Method:
        """Return the method for `model`, whose modalities have these names."""
        return self.method(self, model, modalities)
