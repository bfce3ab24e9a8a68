"""Noise on one modality at evaluation: named, repeatable sample by sample, clipped to the valid range."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import from_plain
from cpsc_train.data.dataset import Modality
from cpsc_train.data.preprocessing import Scale
from cpsc_train.errors import UserError

Values = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """One noise condition: every sample of one modality is corrupted.

    The draw depends on the seed, the sample id and the modality alone, so it is the same in any order, batch or worker.
    """

    modality: str
    """The modality it is applied to."""
    kind: Literal["gaussian", "salt-and-pepper"]
    """``gaussian`` adds normal noise; ``salt-and-pepper`` sets values to the smallest or largest valid one."""
    severity: float
    """``gaussian``: standard deviation, in units of the valid range where there is one, else of each feature's
    deviation over the training rows. ``salt-and-pepper``: share of the values that are replaced."""
    seed: int = 0
    """Seed of the draw."""

    def __post_init__(self) -> None:
        most = 1.0 if self.kind == "salt-and-pepper" else np.inf
        if not 0 < self.severity <= most:
            raise UserError(f"severity of {self.kind} noise must lie in (0, {most:g}], got {self.severity}")

    @classmethod
    def sweep(cls, text: str) -> tuple[Noise, ...]:
        """Read ``MODALITY:KIND:SEVERITY,SEVERITY``.

        Examples
        --------
        >>> [noise.name for noise in Noise.sweep("pix:gaussian:0.5,1")]
        ['pix-gaussian-0.5', 'pix-gaussian-1']
        """
        try:
            modality, kind, levels = text.split(":")
            severities = [float(level) for level in levels.split(",")]
        except ValueError:
            raise UserError(f"a noise sweep must read MODALITY:KIND:SEVERITY,SEVERITY, got {text!r}") from None
        return tuple(from_plain(cls, {"modality": modality, "kind": kind, "severity": s}) for s in severities)

    @property
    def name(self) -> str:
        """Name in tables and result files, such as ``pix-gaussian-0.5``."""
        return f"{self.modality}-{self.kind}-{self.severity:g}"

    def check(self, modality: Modality) -> None:
        """Refuse text, and salt and pepper where there is no smallest and largest value."""
        if modality.kind == "text":
            raise UserError(f"{self.name}: {self.modality} is text, whose token numbers cannot be made noisy")
        if self.kind == "salt-and-pepper" and modality.bounds is None:
            raise UserError(
                f"{self.name}: {self.modality} has no bounds, so salt-and-pepper noise has no values to set"
            )

    def __call__(self, values: Values, ids: Sequence[str], modality: Modality, scale: Scale) -> Values:
        """Corrupt samples.

        Parameters
        ----------
        values
            (n, *shape) in the modality's own units.
        ids
            n sample names.
        modality, scale
            What the values mean, and their training statistics.
        """
        unit = scale.deviation if modality.bounds is None else np.float32(modality.bounds[1] - modality.bounds[0])
        noisy = np.stack([self._one(x, self._generator(i), modality, unit) for x, i in zip(values, ids, strict=True)])
        return noisy if modality.bounds is None else np.clip(noisy, *modality.bounds)

    def _one(self, x: Values, generator: np.random.Generator, modality: Modality, unit: Values | np.float32) -> Values:
        if self.kind == "gaussian":
            return x + np.float32(self.severity) * unit * generator.standard_normal(x.shape, dtype=np.float32)
        low, high = modality.bounds or (0.0, 0.0)
        hit = generator.random(x.shape, dtype=np.float32)
        return np.where(hit < self.severity / 2, low, np.where(hit < self.severity, high, x)).astype(np.float32)

    def _generator(self, sample: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(self.modality.encode()), zlib.crc32(sample.encode())])
