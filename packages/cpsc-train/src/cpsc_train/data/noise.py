"""Noise on one modality: named, reproducible for each sample, clipped to the valid range."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import from_plain
from cpsc_train.data.dataset import Dataset, Modality
from cpsc_train.data.preprocessing import Scale
from cpsc_train.errors import UserError

Values = NDArray[np.float32]
Kind = Literal["gaussian", "salt-and-pepper", "dropout", "snr", "impulses", "words"]
OF_SAMPLES: dict[Kind, str] = {"snr": "sound", "impulses": "sound", "words": "text"}
"""Kinds that corrupt a sample before it becomes the model's input, and the kind of modality they apply to."""
BLANK = "_"
"""Replacement of a corrupted word."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise on all or a fraction of the samples of one modality.

    The draw depends on the seed, the sample id and the modality alone, so it is the same in any order, batch or worker.
    """

    modality: str
    """The corrupted modality."""
    kind: Kind
    """On the model's input: ``gaussian`` adds normal noise, ``salt-and-pepper`` sets values to the smallest or largest
    valid one, ``dropout`` sets them to black in an image, or to each feature's training mean without a valid range; a
    severity of 1 is a sensor that fails silently. On a waveform: ``snr`` adds normal noise, ``impulses`` sets samples
    to −1 or 1. On a text: ``words`` replaces words by ``_``."""
    severity: float
    """``gaussian``: standard deviation, in units of the valid range if there is one, else of each feature's standard
    deviation over the training rows. ``snr``: signal-to-noise ratio in dB; lower is worse. Otherwise: fraction of the
    values, samples or words that are replaced."""
    share: float = 1.0
    """Probability that a sample is corrupted."""
    seed: int = 0
    """Seed of the draw."""

    def __post_init__(self) -> None:
        low, high = {"gaussian": (0.0, np.inf), "snr": (-np.inf, np.inf)}.get(self.kind, (0.0, 1.0))
        if not low < self.severity <= high or not np.isfinite(self.severity):
            bounds = f"({low:g}, {high:g}" + ("]" if np.isfinite(high) else ")")
            raise UserError(f"severity of {self.kind} noise must lie in {bounds}, got {self.severity}")
        if not 0 < self.share <= 1:
            raise UserError(f"share of {self.kind} noise must lie in (0, 1], got {self.share}")

    @classmethod
    def sweep(cls, text: str) -> tuple[Noise, ...]:
        """Parse ``MODALITY:KIND:SEVERITY,SEVERITY``.

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
        """Check that a data set stores this noise, or that its modality can have it."""
        if dataset.corrupted(self.modality, self, np.zeros(0, np.int64)) is None:
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
        """Check that the modality can have noise of this kind."""
        wanted = OF_SAMPLES.get(self.kind)
        if wanted is not None and modality.kind != wanted:
            raise UserError(f"{self.name}: {self.kind} noise is for {wanted}, and {self.modality} is {modality.kind}")
        if wanted is None and modality.kind == "text":
            raise UserError(f"{self.name}: {self.modality} is text, which takes noise of kind words alone")
        if wanted is None and modality.spectrum is not None:
            raise UserError(
                f"{self.name}: {self.modality} becomes a spectrogram in the model: noise must be of kind snr or "
                "impulses, or data.spectrogram = loader"
            )
        if self.kind == "salt-and-pepper" and modality.bounds is None:
            raise UserError(
                f"{self.name}: {self.modality} has no bounds, so salt-and-pepper noise has no values to set"
            )

    def hits(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Return which samples are corrupted, (n,)."""
        if self.share == 1:
            return np.ones(len(ids), dtype=np.bool_)
        return np.array([self._generator(i, 1).random() < self.share for i in ids], dtype=np.bool_)

    def of_samples(self, values: NDArray[Any], ids: Sequence[str]) -> NDArray[Any]:
        """Corrupt waveforms (n, samples) or texts (n,), as a data set reads them; other kinds return them unchanged."""
        if self.kind not in OF_SAMPLES:
            return values
        corrupt: Callable[[Any, np.random.Generator], Any] = self._words if self.kind == "words" else self._sound
        return self._hit(values, ids, corrupt)

    def of_inputs(self, values: Values, ids: Sequence[str], modality: Modality, scale: Scale) -> Values:
        """Corrupt the model's input ``(n, *shape)``, in the modality's own units.

        `scale` holds the training statistics. Kinds for waveforms or texts return the values unchanged.
        """
        if self.kind in OF_SAMPLES:
            return values
        noisy = self._hit(values, ids, lambda x, generator: self._values(x, generator, modality, scale))
        return noisy if modality.bounds is None else np.clip(noisy, *modality.bounds)

    def _hit(
        self, values: NDArray[Any], ids: Sequence[str], corrupt: Callable[[Any, np.random.Generator], Any]
    ) -> NDArray[Any]:
        noisy = values.copy()
        for place in map(int, np.flatnonzero(self.hits(ids))):
            noisy[place] = corrupt(values[place], self._generator(ids[place]))
        return noisy

    def _values(self, x: Values, generator: np.random.Generator, modality: Modality, scale: Scale) -> Values:
        bounds = modality.bounds
        if self.kind == "gaussian":
            unit = scale.deviation if bounds is None else np.float32(bounds[1] - bounds[0])
            return x + np.float32(self.severity) * unit * generator.standard_normal(x.shape, dtype=np.float32)
        if self.kind == "dropout":
            lost = generator.random(x.shape, dtype=np.float32) < self.severity
            return np.where(lost, scale.mean if bounds is None else np.float32(bounds[0]), x).astype(np.float32)
        return _set_to_ends(x, self.severity, bounds or (0.0, 0.0), generator)

    def _sound(self, x: Values, generator: np.random.Generator) -> Values:
        if self.kind == "impulses":
            return _set_to_ends(x, self.severity, (-1.0, 1.0), generator)
        power = float(np.mean(np.square(x, dtype=np.float64)))
        deviation = np.float32(np.sqrt(power / 10 ** (self.severity / 10)))
        return np.clip(x + deviation * generator.standard_normal(x.shape, dtype=np.float32), -1, 1)

    def _words(self, text: str, generator: np.random.Generator) -> str:
        return re.sub(r"\S+", lambda word: BLANK if generator.random() < self.severity else word[0], text)

    def _generator(self, sample: str, *more: int) -> np.random.Generator:
        return np.random.default_rng(
            [self.seed, zlib.crc32(self.modality.encode()), zlib.crc32(sample.encode()), *more]
        )


def _set_to_ends(x: Values, fraction: float, ends: tuple[float, float], generator: np.random.Generator) -> Values:
    """Set a fraction of the values to one end or the other."""
    draw = generator.random(x.shape, dtype=np.float32)
    return np.where(draw < fraction / 2, ends[0], np.where(draw < fraction, ends[1], x)).astype(np.float32)
