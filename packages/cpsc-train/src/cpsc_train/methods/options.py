"""Options of a method: their scaling with the length of a run, and the ranges of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Self

from cpsc_train.config import Choice
from cpsc_train.config.choice import COUNT, DECAY, NOT_NEGATIVE, POSITIVE, Rule
from cpsc_train.methods.base import Method
from cpsc_train.models import MultimodalClassifier


@dataclass(frozen=True)
class Range:
    """Range of a search from `low` to `high`, ends included; whole numbers if both ends are."""

    low: float
    high: float
    log: bool = False
    """Whether the search is uniform in the logarithm."""
    share: bool = False
    """Whether the ends are fractions of the epochs of a run."""

    def for_epochs(self, epochs: int) -> Range:
        """Return the range for a run of `epochs`: whole numbers of epochs, at least 1, if the ends are fractions.

        Examples
        --------
        >>> Range(0.02, 0.5, log=True, share=True).for_epochs(40)
        Range(low=1, high=20, log=True, share=False)
        """
        if not self.share:
            return self
        low, high = (max(1, round(end * epochs)) for end in (self.low, self.high))
        return Range(low, high, self.log)


Space = Mapping[str, Range | tuple[str | bool, ...]]
"""Options of a search, with their ranges or values."""


class MethodConfig(Choice, plugins="cpsc_train.methods"):
    """Options of a method."""

    section = "method"
    method: ClassVar[type[Method]]
    """The method with these options."""
    source: ClassVar[str] = ""
    """Source of the equations."""
    shares: ClassVar[Mapping[str, float]] = MappingProxyType({})
    """Options that count epochs, as a fraction of the epochs of a run."""
    search: ClassVar[Space] = MappingProxyType({})
    """Options searched by ``cpsc tune``, with their ranges or values."""

    @property
    def searched(self) -> Space:
        """Those of `search` that have an effect with these options."""
        return self.search

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


__all__ = ["COUNT", "DECAY", "NOT_NEGATIVE", "POSITIVE", "MethodConfig", "Range", "Rule"]
