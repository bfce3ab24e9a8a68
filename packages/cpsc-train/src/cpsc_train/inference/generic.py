"""Generic corruptions of each modality, to which variants are fitted where none are named."""

from __future__ import annotations

from collections.abc import Sequence

from cpsc_train.data import Dataset, Noise
from cpsc_train.data.noise.levels import Source, levelled

KINDS = ("gaussian", "words", "snr")
"""Kinds in order of preference: of inputs as numbers, of texts, of waveforms."""
LEVELS = (1, 3, 5)


def corrupted_copies(dataset: Dataset, texts: Sequence[str] = ()) -> list[tuple[Noise, ...]]:
    """Return the noise of each corrupted copy of held-out rows.

    Parameters
    ----------
    dataset
        Its modalities, and what it stores of them, decide what noise they can have.
    texts
        Conditions such as ``image:blur@1,3,5``. If empty, each modality alone with the first of `KINDS` that it can
        have, at `LEVELS`, and all those modalities together, each at its middle level and at its highest.

    Returns
    -------
    list[tuple[Noise, ...]]
        Empty if no modality can have any.

    Raises
    ------
    UserError
        If a text has another form, or names noise that the modality cannot have.
    """
    source = Source(dataset.modalities, dataset)
    if texts:
        return [condition.parts for text in texts for condition in levelled(text, source)]
    alone = [noises for m in dataset.modalities if (noises := _generic(m, source))]
    middle, last = tuple(noises[len(noises) // 2] for noises in alone), tuple(noises[-1] for noises in alone)
    together = list(dict.fromkeys([middle, last])) if len(alone) > 1 else []
    return [(noise,) for noises in alone for noise in noises] + together


def kinds_of(copies: Sequence[tuple[Noise, ...]]) -> list[str]:
    """Return the kinds of noise as ``MODALITY:KIND``, each once."""
    return list(dict.fromkeys(f"{noise.modality}:{noise.kind}" for copy in copies for noise in copy))


def _generic(modality: str, source: Source) -> list[Noise]:
    kind = next((kind for kind in KINDS if kind in source.kinds(modality)), None)
    if kind is None:
        return []
    return [source.at(modality, kind, level) for level in source.levels(modality, kind) if level in LEVELS]
