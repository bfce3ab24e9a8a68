"""Noise on one modality of some or all samples, and conditions of noise on several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import from_plain, unknown
from cpsc_train.data.dataset import Dataset
from cpsc_train.data.modality import Modality
from cpsc_train.data.noise.base import KINDS, LEVELS, Corruption
from cpsc_train.data.preprocessing import Scale, Unscaled
from cpsc_train.data.strings import crc32
from cpsc_train.errors import UserError

Values = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise on all or a fraction of the samples of one modality.

    The draw depends only on the seed, the sample id and the modality, so it is the same in any order, batch or worker.
    """

    modality: str
    """The corrupted modality."""
    kind: str
    """Kind of noise; ``cpsc data corruptions`` lists all."""
    severity: float
    """Severity in the unit of the kind; ``cpsc data corruptions`` lists the units and five levels of each kind."""
    share: float = 1.0
    """Probability that a sample is corrupted."""
    seed: int = 0
    """Seed of the draw."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(unknown("noise kind", self.kind, list(KINDS)))
        self.corruption.check(self.severity)
        if not 0 < self.share <= 1:
            raise UserError(f"share of {self.kind} noise must lie in (0, 1], got {self.share}")

    @property
    def corruption(self) -> Corruption:
        """The corruption called `kind`."""
        return KINDS[self.kind]

    @classmethod
    def sweep(cls, text: str) -> tuple[Noise, ...]:
        """Parse ``MODALITY:KIND:SEVERITY,SEVERITY``; UserError for another form, kind or severity.

        Examples
        --------
        >>> [noise.name for noise in Noise.sweep("pix:gaussian:0.5,1")]
        ['pix-gaussian-0.5', 'pix-gaussian-1']
        """
        try:
            modality, kind, levels = text.split(":")
            severities = [float(level) for level in levels.split(",")]
        except ValueError:
            raise UserError(
                f"noise must read MODALITY:KIND:SEVERITY or MODALITY:KIND:SEVERITY,SEVERITY, got {text!r}"
            ) from None
        return tuple(from_plain(cls, {"modality": modality, "kind": kind, "severity": s}) for s in severities)

    @property
    def name(self) -> str:
        """Name in tables and result files, such as ``pix-gaussian-0.5``."""
        return f"{self.modality}-{self.kind}-{self.severity:g}" + (f"-of-{self.share:g}" if self.share < 1 else "")

    def check_on(self, dataset: Dataset) -> None:
        """Check that a data set stores this noise, or that its kind applies to the modality.

        Noise on a modality with stored corruptions is never computed, as features cannot be corrupted like images.
        """
        if self.stored_by(dataset):
            return
        if stored := dataset.stored(self.modality):
            raise UserError(
                f"{self.name}: noise on {self.modality} must be one of its stored corruptions, {', '.join(stored)}"
            )
        self.check(dataset.modalities[self.modality])

    def redrawn(self, *key: int) -> Noise:
        """Return this noise with another draw, a function of its seed and a `key` such as (seed of the run, epoch).

        Examples
        --------
        >>> noise = Noise(modality="pix", kind="gaussian", severity=0.5, share=0.3)
        >>> noise.redrawn(0, 1) == noise.redrawn(0, 1) != noise.redrawn(0, 2)
        True
        """
        return replace(self, seed=int(np.random.SeedSequence([self.seed, *key]).generate_state(1, np.uint64)[0] >> 1))

    def check(self, modality: Modality) -> None:
        """Check that this kind of noise applies to a modality."""
        misfit = self.corruption.misfit(self.modality, modality)
        if misfit is not None:
            raise UserError(f"{self.name}: {misfit}")

    def stored_by(self, dataset: Dataset) -> bool:
        """Return whether a data set stores its modality after this noise."""
        return dataset.corrupted(self.modality, self, np.zeros(0, np.int64)) is not None

    def level(self, modality: Modality, *, stored: bool = False) -> int | None:
        """Return the level with this severity, 1 to 5; None if there is none.

        The levels of a `stored` corruption are those of the modality from which features were extracted.
        """
        corruption = self.corruption
        tables = corruption.tables if stored else (corruption.levels_of(modality),)
        return next((level for table in tables for level in LEVELS if table[level - 1] == self.severity), None)

    def hits(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Return which samples are corrupted, (n,)."""
        if self.share == 1:
            return np.ones(len(ids), dtype=np.bool_)
        return np.array([self._generator(i, 1).random() < self.share for i in ids], dtype=np.bool_)

    def of_samples(self, values: NDArray[Any], ids: Sequence[str], modality: Modality) -> NDArray[Any]:
        """Corrupt waveforms (n, samples) or texts (n,), as a data set reads them; other kinds return them unchanged."""
        return self._hit(values, ids, modality, Unscaled()) if self.corruption.of_samples else values

    def of_inputs(self, values: Values, ids: Sequence[str], modality: Modality, scale: Scale) -> Values:
        """Corrupt the model's input ``(n, *shape)``, in the modality's own units.

        `scale` holds the training statistics. Kinds for waveforms or texts return the values unchanged.
        """
        if self.corruption.of_samples:
            return values
        noisy = self._hit(values, ids, modality, scale)
        return noisy if modality.bounds is None else np.clip(noisy, *modality.bounds)

    def _hit(self, values: NDArray[Any], ids: Sequence[str], modality: Modality, scale: Scale) -> NDArray[Any]:
        corrupt, noisy = self.corruption.corrupt, values.copy()
        for place in map(int, np.flatnonzero(self.hits(ids))):
            noisy[place] = corrupt(values[place], self.severity, self._generator(ids[place]), modality, scale)
        return noisy

    def _generator(self, sample: str, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, crc32(self.modality), crc32(sample), *more])


@dataclass(frozen=True)
class Condition:
    """Corruption of evaluation rows: its name in tables and result files, and noise on one or more modalities."""

    name: str
    parts: tuple[Noise, ...]

    def describe(self, dataset: Dataset) -> list[dict[str, Any]]:
        """Return by corrupted modality its kind, severity, level, and the fraction of samples, as in results files."""
        return [
            {
                "modality": noise.modality,
                "kind": noise.kind,
                "severity": noise.severity,
                "level": noise.level(dataset.modalities[noise.modality], stored=noise.stored_by(dataset)),
                "share": noise.share,
            }
            for noise in self.parts
        ]
