"""The options of a method: what they must be, how they follow the length of a run, where a search looks."""

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
    """What a value of an option must be.

    Parameters
    ----------
    text
        Said after its name: ``must not be negative``.
    holds
        Whether a value keeps it.
    """

    text: str
    holds: Callable[[float], bool]


NOT_NEGATIVE = Rule("must not be negative", lambda value: value >= 0)
POSITIVE = Rule("must be positive", lambda value: value > 0)
COUNT = Rule("must be at least 1", lambda value: value >= 1)
DECAY = Rule("must lie in [0, 1)", lambda value: 0 <= value < 1)


@dataclass(frozen=True)
class Range:
    """Where a search for a good value looks: both ends included, whole numbers if both are.

    Parameters
    ----------
    low, high
        The ends.
    log
        Whether to look at factors rather than differences.
    """

    low: float
    high: float
    log: bool = False


class MethodConfig(Choice, plugins="cpsc_train.methods"):
    """Options of a method."""

    source: ClassVar[str] = ""
    """Where its equations come from."""
    shares: ClassVar[Mapping[str, float]] = MappingProxyType({})
    """Options that count epochs, as a share of the epochs of a run."""
    rules: ClassVar[Mapping[str, Rule]] = MappingProxyType({})
    """What options must be."""
    search: ClassVar[Mapping[str, Range | tuple[str | bool, ...]]] = MappingProxyType({})
    """Options that ``cpsc tune`` looks for, and where."""

    def __post_init__(self) -> None:
        """Refuse a value that breaks its rule; what several options must be together, a method says itself."""
        for option, rule in self.rules.items():
            value = getattr(self, option)
            if not rule.holds(value):
                raise UserError(f"method.{option} {rule.text}, got {value}")

    @classmethod
    def for_epochs(cls, epochs: int) -> Self:
        """Return the options for a run of `epochs`: the defaults, but where they are `shares` of a run.

        A default is what the source has, at the source's number of epochs; in a run of another length it may be too
        late for anything to happen.
        """
        return cls(**{name: max(1, round(share * epochs)) for name, share in cls.shares.items()})

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method for `model`.

        Parameters
        ----------
        model, modalities
            The model, and the names of its modalities.
        frozen_copy
            ``conformal.frozen_copy``: whether reliability is judged by heads as they were at the last refresh.
        """
        raise NotImplementedError
