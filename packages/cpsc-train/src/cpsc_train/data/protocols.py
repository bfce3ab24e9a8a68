"""Named conditions: ``GS@5`` and ``SP@10`` as defined by published code, and levels of severity.

``qmf`` and ``cpsc`` follow their public code with its errors corrected: pixels are clipped and do not wrap around,
every sample and channel has noise of its own, and no random state is shared. ``strict`` corrupts every sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.modality import Modality
from cpsc_train.data.noise import Condition, Noise
from cpsc_train.data.noise.levels import FORMS, Source, levelled
from cpsc_train.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """Definition of GS@ε (Gaussian) and SP@ε (salt and pepper)."""

    gaussian: Callable[[float], float]
    """From ε to the fraction of samples that GS@ε corrupts."""
    impulsive: Callable[[float], tuple[float, float]]
    """From ε to the fraction of samples that SP@ε corrupts, and the fraction of their values."""
    depth: float
    """σ of GS@ε on colour and depth, in ε of 255; images in other data sets take 10."""
    paired: bool = True
    """Whether SP is defined for colour and depth."""
    levels: tuple[float, ...] = ()
    """The ε for which SP is defined; any if empty."""


PROTOCOLS = {
    "qmf": Protocol(lambda _: 0.5, lambda e: (e / 200, 0.1), depth=1.0, paired=False),
    "cpsc": Protocol(lambda _: 0.5, lambda e: (e / 20, 0.1), depth=1.0, levels=(5.0, 10.0)),
    "strict": Protocol(lambda _: 1.0, lambda e: (1.0, e / 100), depth=10.0),
}


def conditions(
    text: str, modalities: Mapping[str, Modality], *, dataset: Dataset | None = None
) -> tuple[Condition, ...]:
    """Parse ``PROTOCOL:GS@5,10`` or ``PROTOCOL:SP@5``, independent noise on all modalities at once, or levels.

    Levels are read by `levelled`: ``MODALITY:KIND@1-5``, with ``+`` for several modalities at once.

    An image has σ = 10ε of 255 beside sound or text, and ε beside depth (10ε with ``strict``); words of a text are
    replaced with probability .1ε under GS and SP alike. Modalities without a published protocol are defined here: sound
    has a signal-to-noise ratio of 20 − 2ε dB, a vector σ = .1ε standard deviations, and SP on both has the fractions of
    an image.

    Parameters
    ----------
    text
        Protocol, kind and levels ε ≥ 0, with ε = 0 clean; or levels of severity.
    modalities
        Modalities of the data set.
    dataset
        The data set, if it may store corruptions.

    Raises
    ------
    UserError
        For an unknown protocol, one that does not define the kind for a modality, or noise that is not stored on a
        modality with stored corruptions.

    Examples
    --------
    >>> photo = Modality(kind="image", shape=(3, 8, 8), bounds=(0.0, 255.0))
    >>> text = Modality(kind="text", shape=(16,), vocabulary=100)
    >>> (condition,) = conditions("qmf:GS@5", {"image": photo, "text": text})
    >>> [(noise.kind, round(noise.severity, 3), noise.share) for noise in condition.parts]
    [('gaussian', 0.196, 0.5), ('words', 0.5, 0.5)]
    """
    match = re.fullmatch(rf"({'|'.join(PROTOCOLS)}):(GS|SP)@(\d+(?:\.\d+)?(?:,\d+(?:\.\d+)?)*)", text)
    source = Source(modalities, dataset)
    if match is None and text.partition(":")[0] in modalities:
        return levelled(text, source)
    if match is None:
        raise UserError(
            f"noise must read PROTOCOL:GS@5,10 or PROTOCOL:SP@5,10, with one of {', '.join(PROTOCOLS)}, or {FORMS}, "
            f"with modalities {', '.join(modalities)}, got {text!r}"
        )
    name, kind, levels = match.groups()
    return tuple(_condition(name, kind, float(level), source) for level in levels.split(","))


def _condition(name: str, kind: str, level: float, source: Source) -> Condition:
    protocol, modalities = PROTOCOLS[name], source.modalities
    if level == 0:
        return Condition(f"{name}:{kind}@0", ())
    paired = "depth" in modalities
    if kind == "SP" and paired and not protocol.paired:
        raise UserError(f"{name}:SP has no meaning for colour and depth: take cpsc:SP or strict:SP")
    if kind == "SP" and protocol.levels and level not in protocol.levels:
        raise UserError(f"{name}:SP is defined for {' and '.join(f'{e:g}' for e in protocol.levels)}, got {level:g}")
    parts = [_noise(protocol, kind, level, m, modality, paired=paired) for m, modality in modalities.items()]
    return Condition(f"{name}:{kind}@{level:g}", tuple(map(source.checked, parts)))


def _noise(protocol: Protocol, kind: str, level: float, name: str, modality: Modality, *, paired: bool) -> Noise:
    share, density = (protocol.gaussian(level), 0.0) if kind == "GS" else protocol.impulsive(level)
    if modality.kind == "text":
        share = protocol.gaussian(level)
        return Noise(modality=name, kind="words", severity=min(1.0, 0.1 * level), share=share)
    if kind == "SP" and modality.kind == "sound":
        return Noise(modality=name, kind="impulses", severity=density, share=share)
    if kind == "SP":
        return Noise(modality=name, kind="salt-and-pepper", severity=density, share=share)
    if modality.kind == "sound":
        return Noise(modality=name, kind="snr", severity=20 - 2 * level, share=share)
    unit = 0.1 if modality.bounds is None else (protocol.depth if paired else 10.0) / 255
    return Noise(modality=name, kind="gaussian", severity=unit * level, share=share)
