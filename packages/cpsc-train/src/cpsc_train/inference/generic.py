"""Generic corruptions of each modality, to which variants are fitted where none are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cpsc_train.data import Dataset, Noise
from cpsc_train.data.noise.levels import Source, levelled
from cpsc_train.errors import UserError

KINDS = ("gaussian", "words", "snr")
"""Kinds in order of preference: of inputs as numbers, of texts, of waveforms."""
LEVELS = (1, 3, 5)
BEYOND = 2
"""Factor of the highest severity at which Gaussian noise is taken, too: noise can be stronger than at level 5."""


def corrupted_copies(dataset: Dataset, texts: Sequence[str] = ()) -> list[tuple[Noise, ...]]:
    """Return the noise of each corrupted copy of held-out rows.

    Raises UserError if a text has another form, or names noise that the modality cannot have.

    - `dataset`: its modalities, and what it stores of them, decide what noise they can have.
    - `texts`: conditions such as ``image:blur@1,3,5``. If empty, each modality alone with the first of `KINDS` that it
      can have, at `LEVELS`, if all rows can have it, and Gaussian noise that is not stored at `BEYOND` times the
      highest severity, too; and all those modalities together, each at its middle level and at its highest.

    Returns
    -------
    list[tuple[Noise, ...]]
        Empty if no modality can have any.
    """
    source = Source(dataset.modalities, dataset)
    if texts:
        return [condition.parts for text in texts for condition in levelled(text, source)]
    alone = [noises for m in dataset.modalities if (noises := _generic(m, source, dataset))]
    middle, last = tuple(noises[len(noises) // 2] for noises in alone), tuple(noises[-1] for noises in alone)
    together = list(dict.fromkeys([middle, last])) if len(alone) > 1 else []
    return [(noise,) for noises in alone for noise in [*noises, *_beyond(noises[-1], dataset)]] + together


def kinds_of(copies: Sequence[tuple[Noise, ...]]) -> list[str]:
    """Return the kinds of noise as ``MODALITY:KIND``, each once."""
    return list(dict.fromkeys(f"{noise.modality}:{noise.kind}" for copy in copies for noise in copy))


def _generic(modality: str, source: Source, dataset: Dataset) -> list[Noise]:
    kind = next((kind for kind in KINDS if kind in source.kinds(modality)), None)
    if kind is None:
        return []
    noises = [source.at(modality, kind, level) for level in source.levels(modality, kind) if level in LEVELS]
    return [noise for noise in noises if _of_all_rows(noise, dataset)]


def _beyond(noise: Noise, dataset: Dataset) -> list[Noise]:
    """Return noise that is stronger than at any level; none if it cannot be computed."""
    if noise.kind != "gaussian" or dataset.stored(noise.modality):
        return []
    return [replace(noise, severity=BEYOND * noise.severity)]


def _of_all_rows(noise: Noise, dataset: Dataset) -> bool:
    """Return whether all rows can have the noise: a stored one may be extracted for some parts only."""
    if not dataset.stored(noise.modality):
        return True
    mask = dataset.presence.get(noise.modality)
    try:
        dataset.corrupted(noise.modality, noise, np.arange(len(dataset)) if mask is None else np.flatnonzero(mask))
    except UserError:
        return False
    return True
