"""Samples that lack a modality: removal of modalities at random, counts and checks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.splits import Splits
from cpsc_train.data.strings import crc32
from cpsc_train.errors import UserError

Part = Literal["train", "calibration", "validation", "test"]
Mask = NDArray[np.bool_]
STEPS = 60
"""Newton steps. At a double root, each only halves the error."""


@dataclass(frozen=True, kw_only=True)
class MissingConfig:
    """Modalities removed from some of the samples.

    Every draw depends only on the seed, the sample id and the modality, so all methods use the same incomplete rows.
    """

    share: dict[str, float] = field(default_factory=dict)
    """Fraction of the rows from which each modality is removed, besides rows that lack it in the data set."""
    parts: tuple[Part, ...] = get_args(Part)
    """The parts with incomplete rows."""
    seed: int = 0
    """Seed of the draw, separate from that of a run, so that runs have the same incomplete rows."""

    def __post_init__(self) -> None:
        for modality, share in self.share.items():
            if not 0 <= share < 1:
                raise UserError(f"missing.share.{modality} must lie in [0, 1), got {share}")
        if len(set(self.parts)) < len(self.parts):
            raise UserError(f"missing.parts must be different, got {', '.join(self.parts)}")

    def check(self, modalities: Sequence[str]) -> None:
        """Refuse a modality that is not in use, and fractions that would leave some rows without any modality."""
        for modality in self.share:
            if modality not in modalities:
                raise UserError(f"missing.share: modality must be one of {', '.join(modalities)}, got {modality!r}")
        if (total := sum(self.share.values())) > len(modalities) - 1 + 1e-9:
            raise UserError(
                f"missing.share must add up to at most {len(modalities) - 1} for {len(modalities)} modalities, since "
                f"every row keeps one, got {total:g}"
            )

    def taken_from(self, dataset: Dataset, splits: Splits) -> Dataset:
        """Return a copy of the data set with modalities removed; the original is unchanged."""
        if not any(self.share.values()):
            return dataset
        self.check(list(dataset.modalities))
        rows = np.concatenate([getattr(splits, part) for part in self.parts])
        held = {m: dataset.presence.get(m, np.ones(len(dataset), np.bool_)) for m in dataset.modalities}
        kept = remaining(dataset.ids_of(rows), {m: held[m][rows] for m in held}, self.share, self.seed)
        incomplete = copy.copy(dataset)
        presence = {m: mask.copy() for m, mask in held.items()}
        for m, mask in presence.items():
            mask[rows] = kept[m]
        incomplete.presence = {m: mask for m, mask in presence.items() if not mask.all()}
        return incomplete


def parse_missing(texts: Sequence[str]) -> dict[str, float]:
    """Parse ``MODALITY=FRACTION``, or several separated by commas; UserError for another form.

    Examples
    --------
    >>> parse_missing(["image=.3", "text=.2,audio=0.1"])
    {'image': 0.3, 'text': 0.2, 'audio': 0.1}
    """
    share = {}
    for text in ",".join(texts).split(","):
        modality, equals, fraction = text.partition("=")
        if modality in share:
            raise UserError(f"missing modalities must be different, got {modality!r} twice")
        try:
            share[modality] = float(fraction)
        except ValueError:
            equals = ""
        if not equals or not modality:
            raise UserError(f"missing modalities must read MODALITY=FRACTION, such as image=.3, got {text!r}")
    return share


def remaining(ids: Sequence[str], held: Mapping[str, Mask], share: Mapping[str, float], seed: int) -> dict[str, Mask]:
    """Return which samples keep a modality, {m: (n,)}, of those that have it by the masks `held` {m: (n,)}.

    Modalities are lost with the values of `probabilities`. A sample that would lose all its modalities keeps one, m
    with a probability proportional to 1 − share_m. In complete data, m is then missing from a fraction share_m.

    Examples
    --------
    >>> both = {m: np.ones(10_000, dtype=bool) for m in ("image", "text")}
    >>> kept = remaining([str(i) for i in range(10_000)], both, {"image": 0.5, "text": 0.3}, seed=0)
    >>> {m: round(float(1 - mask.mean()), 2) for m, mask in kept.items()}, bool((kept["image"] | kept["text"]).all())
    ({'image': 0.5, 'text': 0.3}, True)
    """
    shares = {m: share.get(m, 0.0) for m in held}
    lost = probabilities(shares)
    draws = {m: np.array([_draw(seed, i, m) for i in ids]) if lost[m] else np.ones(len(ids)) for m in held}
    kept = {m: mask & (draws[m] >= lost[m]) for m, mask in held.items()}
    alone = np.array([place for place in range(len(ids)) if not any(mask[place] for mask in kept.values())], dtype=int)
    for place in alone:
        candidates = [m for m, mask in held.items() if mask[place]]
        if candidates:
            weights = np.cumsum([1 - shares[m] for m in candidates])
            chosen = int(np.searchsorted(weights, _draw(seed, ids[place], "") * weights[-1], side="right"))
            kept[candidates[min(chosen, len(candidates) - 1)]][place] = True
    return kept


def probabilities(share: Mapping[str, float]) -> dict[str, float]:
    """Return the probabilities p_m of losing each modality with which the fraction f_m of all samples lacks it.

    All are lost with Q = Π p, and one of them is then kept, m with probability (1 − f_m) / S where S = Σ (1 − f). So
    p_m = f_m + (1 − f_m) Q / S, which is solved for Q; the shares must add up to at most M − 1, so S is at least 1.

    Examples
    --------
    >>> {m: round(p, 3) for m, p in probabilities({"a": 0.5, "b": 0.5}).items()}  # one of the two, always
    {'a': 1.0, 'b': 1.0}
    >>> probabilities({"a": 0.3, "b": 0.0})
    {'a': 0.3, 'b': 0.0}
    """
    rest = sum(1 - f for f in share.values())

    def lost(all_lost: float) -> list[float]:
        return [f + (1 - f) * all_lost / rest for f in share.values()]

    q = 0.0
    for _ in range(STEPS):  # the product minus Q is convex and positive below the root: steps never pass it
        p = lost(q)
        slope = sum((1 - f) / rest * prod(p[:i] + p[i + 1 :]) for i, f in enumerate(share.values())) - 1
        if slope >= 0:
            break
        q = min(1.0, q - (prod(p) - q) / slope)
    return dict(zip(share, lost(q), strict=True))


def check_presence(dataset: Dataset, splits: Splits) -> None:
    """Refuse a sample without any modality, and a part in which no row has a modality."""
    if len(dataset.presence) == len(dataset.modalities):
        alone = np.flatnonzero(~np.any(list(dataset.presence.values()), axis=0))
        if len(alone):
            raise UserError(f"sample {dataset.ids[alone[0]]} has no modality of {', '.join(dataset.modalities)}")
    for part, of in numbers(dataset, splits).items():
        for modality, number in of.items():
            if not number:
                raise UserError(f"no {part} row has {modality}: leave the modality out, or divide the data differently")


def numbers(dataset: Dataset, splits: Splits) -> dict[str, dict[str, int]]:
    """Return the number of rows that have each incomplete modality, by part."""
    return {
        part: {m: int(mask[getattr(splits, part)].sum()) for m, mask in dataset.presence.items()}
        for part in splits.sizes
    }


def _draw(seed: int, sample: str, modality: str) -> float:
    keys = [seed, crc32("missing"), crc32(modality), crc32(sample)]
    return float(np.random.default_rng(keys).random())
