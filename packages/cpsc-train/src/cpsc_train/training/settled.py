"""Completion of a configuration from its data: modalities, their encoders, and noise conditions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from cpsc_train.config import from_plain
from cpsc_train.data import Dataset, Modality, Noise
from cpsc_train.data.families.arrays import stored_noise
from cpsc_train.models.encoders.by_kind import encoder_of

if TYPE_CHECKING:
    from cpsc_train.training.config import RunConfig


def settled(config: RunConfig) -> RunConfig:
    """Return a complete configuration; modalities and encoders that are not set follow from the data.

    All modalities in the files are used, and each gets an encoder by its kind. If there are no noise conditions and no
    protocols, the stored corruptions of each modality are used, or default noise if it has none. A complete
    configuration is returned unchanged, without opening the data set. Raises UserError if the data set cannot be
    opened.
    """
    if not config.unsettled:
        return config
    dataset = config.data.open()
    encoders = {
        name: config.encoders.get(name) or encoder_of(of, pretrained=dataset.pretrained)
        for name, of in dataset.modalities.items()
    }
    return replace(
        config,
        data=config.data.settled(dataset),
        encoders=encoders,
        noise=config.noise if config.noise or config.protocols else tuple(_noise(dataset)),
    )


def _noise(dataset: Dataset) -> Iterator[Noise]:
    for name, modality in dataset.modalities.items():
        stored = dataset.stored(name)
        for kind, severity in filter(None, map(stored_noise, stored)):
            yield from_plain(Noise, {"modality": name, "kind": kind, "severity": severity})
        if not stored:
            yield from _computed(name, modality)


def _computed(name: str, modality: Modality) -> Iterator[Noise]:
    if modality.kind == "text":
        yield from (Noise(modality=name, kind="words", severity=severity) for severity in (0.25, 0.5))
        return
    levels = (0.5, 1.0) if modality.kind == "image" else (1.0, 2.0)
    yield from (Noise(modality=name, kind="gaussian", severity=severity) for severity in levels)
