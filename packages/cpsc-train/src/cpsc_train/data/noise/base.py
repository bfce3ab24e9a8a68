"""Definition of a kind of corruption, and the registry of kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from cpsc_train.data.modality import Modality
from cpsc_train.data.preprocessing import Scale
from cpsc_train.errors import UserError

Target = Literal["values", "image", "sound", "text", "sensor"]
"""``values``: any model input but text; ``image``, also a clip of images; ``sound``: a waveform; ``text``: a string;
``sensor``: a recording with axes."""
Corrupt = Callable[[Any, float, np.random.Generator, Modality, Scale], Any]
"""Maps a sample, a severity, the generator of the sample, the modality, and the training statistics of the model's
input to the corrupted sample, a new object. Waveforms and texts have no statistics."""
LEVELS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """A kind of corruption.

    Values are clipped to the valid range of the modality afterwards, so `corrupt` need not do so.
    """

    name: str
    target: Target
    """Kind of data that it applies to. Sound and text are corrupted as read, all others as the model's input."""
    corrupt: Corrupt
    summary: str
    """Effect on a sample, as a phrase."""
    severity: str
    """Quantity that the severity measures, with its unit."""
    levels: tuple[float, float, float, float, float]
    """Severities of levels 1 (mild) to 5 (severe)."""
    unbounded: tuple[float, float, float, float, float] | None = None
    """The same for a modality without a valid range, if they differ."""
    within: tuple[float, float] = (0.0, 1.0)
    """Range of severities: above the first number, at most the second."""
    needs_bounds: bool = False
    """Whether the modality must have a valid range."""
    needs_rate: bool = False
    """Whether the sampling rate must be known."""

    @property
    def of_samples(self) -> bool:
        """Whether samples are corrupted as read, rather than as the model's input."""
        return self.target in {"sound", "text"}

    @property
    def tables(self) -> tuple[tuple[float, ...], ...]:
        """The severities of levels 1 to 5, with and without a valid range."""
        return (self.levels,) if self.unbounded is None else (self.levels, self.unbounded)

    def levels_of(self, modality: Modality) -> tuple[float, ...]:
        """Return the severities of levels 1 to 5 for a modality."""
        return self.levels if self.unbounded is None or modality.bounds is not None else self.unbounded

    def check(self, severity: float) -> None:
        """Raise UserError if a severity does not lie in the range of this kind."""
        low, high = self.within
        if not low < severity <= high or not np.isfinite(severity):
            bounds = f"({low:g}, {high:g}" + ("]" if np.isfinite(high) else ")")
            raise UserError(f"severity of {self.name} noise must lie in {bounds}, got {severity}")

    def misfit(self, name: str, modality: Modality) -> str | None:
        """Return why this corruption does not apply to the modality called `name`; None if it does."""
        reason = _not_values(name, modality) if self.target == "values" else self._not_target(name, modality)
        if reason is None and self.needs_rate and modality.rate is None:
            reason = f"{self.name} noise needs the sampling rate of {name}, which is not known"
        if reason is None and self.needs_bounds and modality.bounds is None:
            reason = f"{name} has no bounds, which {self.name} noise needs"
        return reason

    def _not_target(self, name: str, modality: Modality) -> str | None:
        if self.target == "sensor":
            none = f"{self.name} noise is for recordings with axes, and {name} has none"
            return none if modality.axis is None else None
        if modality.kind != self.target:
            return f"{self.name} noise is for {self.target}, and {name} is {modality.kind}"
        return None


_KINDS: dict[str, Corruption] = {}
KINDS: Mapping[str, Corruption] = MappingProxyType(_KINDS)
"""The registered kinds by name."""


def register(*kinds: Corruption) -> None:
    """Add kinds of corruption; a kind replaces another of the same name."""
    _KINDS.update({kind.name: kind for kind in kinds})


def fitting(name: str, modality: Modality) -> list[str]:
    """Return the names of the kinds that apply to the modality called `name`."""
    return [kind.name for kind in KINDS.values() if kind.misfit(name, modality) is None]


def _not_values(name: str, modality: Modality) -> str | None:
    """Return why noise on the model's input does not fit a modality."""
    if modality.kind == "text":
        return f"{name} is text: noise must be of kind {_alternatives('text')}"
    if modality.spectrum is not None:
        return (
            f"{name} becomes a spectrogram in the model: noise must be of kind {_alternatives('sound')}, or "
            "data.spectrogram = loader"
        )
    return None


def _alternatives(target: Target) -> str:
    names = [kind.name for kind in KINDS.values() if kind.target == target]
    return f"{', '.join(names[:-1])} or {names[-1]}"
