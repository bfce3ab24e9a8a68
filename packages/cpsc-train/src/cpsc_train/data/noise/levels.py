"""Conditions at levels of severity, ``MODALITY:KIND@1-5``, also on several modalities at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cpsc_train.config import unknown
from cpsc_train.data.dataset import Dataset
from cpsc_train.data.modality import Modality
from cpsc_train.data.noise.base import KINDS, LEVELS, fitting
from cpsc_train.data.noise.noise import Condition, Noise
from cpsc_train.errors import UserError

FORMS = "MODALITY:KIND@1-5, @1,3,5 or @3, or MODALITY:KIND:SEVERITY, joined by + for several modalities at once"
EVERY = "all"
"""Name for all kinds that apply to a modality."""


@dataclass(frozen=True)
class Source:
    """What decides the kinds and levels of a modality: its properties, and what the data set stores, if it is given."""

    modalities: Mapping[str, Modality]
    dataset: Dataset | None = None

    def at(self, name: str, kind: str, level: int) -> Noise:
        """Return noise at a level.

        Stored corruptions of features have the levels of what the features were extracted from. Raises UserError if
        others are stored, or the modality cannot have it.
        """
        stored = self._stored(name, kind)
        if level in stored:
            return stored[level]
        if stored:
            levels = ", ".join(map(str, stored))
            raise UserError(f"{kind} noise on {name} is stored at levels {levels}, got {level}")
        severity = KINDS[kind].levels_of(self.modalities[name])[level - 1]
        return self.checked(Noise(modality=name, kind=kind, severity=severity))

    def checked(self, noise: Noise) -> Noise:
        """Return noise that is stored, or can be computed; raise UserError for any other."""
        if self.dataset is None:
            noise.check(self.modalities[noise.modality])
        else:
            noise.check_on(self.dataset)
        return noise

    def kinds(self, name: str) -> list[str]:
        """Return the kinds that a modality can have: those stored at any level, or all that fit it."""
        return [kind for kind in KINDS if self._stored(name, kind)] or fitting(name, self.modalities[name])

    def levels(self, name: str, kind: str) -> tuple[int, ...]:
        """Return the levels that a modality can have of a kind: the stored ones, or all."""
        return tuple(self._stored(name, kind)) or LEVELS

    def _stored(self, name: str, kind: str) -> dict[int, Noise]:
        """Return the stored noise of a kind by level, from the first table of severities of which any is stored."""
        if self.dataset is None:
            return {}
        for table in KINDS[kind].tables:
            noises = {level: Noise(modality=name, kind=kind, severity=table[level - 1]) for level in LEVELS}
            stored = {level: noise for level, noise in noises.items() if noise.stored_by(self.dataset)}
            if stored:
                return stored
        return {}


def levelled(text: str, source: Source) -> tuple[Condition, ...]:
    """Parse conditions such as ``pix:blur@1-5``, ``pix:all@3``, ``pix:blur@1-5+fou:gaussian@1-5``, ``pix:blur:0.1``.

    Terms joined by ``+`` make conditions that corrupt several modalities at once, at equal levels if they name as many.
    Raises UserError for another form, an unknown modality, kind or level, or a kind that the modality cannot have.
    """
    terms = [_term(term, text, source) for term in text.split("+")]
    if len(terms) == 1:
        return tuple(Condition(name, (noise,)) for name, noise in terms[0])
    counts = {len(term) for term in terms}
    if len(counts) > 1 or f":{EVERY}@" in text:
        raise UserError(f"terms joined by + must name as many levels each, of one kind each, got {text!r}")
    return tuple(
        Condition("+".join(name for name, _ in parts), tuple(noise for _, noise in parts))
        for parts in zip(*terms, strict=True)
    )


def parse_levels(text: str) -> tuple[int, ...]:
    """Parse levels as ``3``, ``1,3,5`` or ``1-5``; UserError for another form.

    Examples
    --------
    >>> parse_levels("1-3"), parse_levels("1,5")
    ((1, 2, 3), (1, 5))
    """
    match = re.fullmatch(r"(\d)-(\d)", text)
    if match is not None:
        levels = tuple(range(int(match[1]), int(match[2]) + 1))
    else:
        levels = tuple(int(level) for level in text.split(",")) if re.fullmatch(r"\d(,\d)*", text) else ()
    if not levels or not set(levels) <= set(LEVELS) or len(set(levels)) < len(levels):
        raise UserError(f"levels must be different numbers from 1 to 5, such as 1-5, 1,3,5 or 3, got {text!r}")
    return levels


def _term(term: str, text: str, source: Source) -> list[tuple[str, Noise]]:
    """Return the noise of one term by name of its condition."""
    match = re.fullmatch(r"([^:@]+):([^:@]+)([:@])([^:@]+)", term)
    if match is None:
        raise UserError(f"noise must read {FORMS}, got {text!r}")
    modality, kind, by, amount = match.groups()
    if modality not in source.modalities:
        raise UserError(unknown("modality", modality, list(source.modalities)))
    if by == ":":
        return [(f"{modality}:{kind}:{noise.severity:g}", source.checked(noise)) for noise in Noise.sweep(term)]
    levels = parse_levels(amount)
    if kind not in {EVERY, *KINDS}:
        raise UserError(unknown("noise kind", kind, [EVERY, *KINDS]))
    kinds = source.kinds(modality) if kind == EVERY else [kind]
    return [(f"{modality}:{one}@{level}", source.at(modality, one, level)) for one in kinds for level in levels]
