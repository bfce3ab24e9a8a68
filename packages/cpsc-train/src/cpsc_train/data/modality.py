"""Properties of a modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Spectrum:
    """A log spectrogram that the model computes from a waveform: samples per window, and between two windows."""

    n_fft: int
    hop: int


@dataclass(frozen=True, kw_only=True)
class Modality:
    """Properties of a modality that are known before any sample is read."""

    kind: Literal["image", "vector", "text", "sound"]
    """An image has one scale for all pixels, a vector one per feature; a text holds token numbers, which have no scale,
    and 0 is padding. Sound is read as a waveform in [−1, 1] and enters the model as an image, its spectrogram."""
    shape: tuple[int, ...]
    """Shape of one sample at the encoder: (channels, height, width) or (frames, channels, height, width) of an image,
    (tokens,) of a text."""
    bounds: tuple[float, float] | None = None
    """Smallest and largest valid value, to which noise is clipped. If None, values have no bounds."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    """Known statistics, one number or one per channel. If None, they are fitted on the training rows."""
    vocabulary: int | None = None
    """Number of distinct tokens of a text."""
    spectrum: Spectrum | None = None
    """What the model computes of sound that leaves the loader as a waveform (samples,)."""
    rate: int | None = None
    """Samples per second of the waveform of sound that `Dataset.read` returns, if known."""
    axis: int | None = None
    """Of a recording by a sensor with several axes, such as (time, axes): the dimension of `shape` that counts the
    axes. If None, it is not such a recording."""
    depths: tuple[int, ...] = ()
    """Of saved features of an encoder, concatenated from several of its depths: the width of each, from the first to
    the last. If empty, a vector is not divided."""

    @property
    def summary(self) -> str:
        """Kind, shape and valid range in a few words, such as ``image of 1×16×15 in [0, 6]``."""
        shape = "×".join(map(str, self.shape)) + " tokens" * (self.kind == "text")
        return f"{self.kind} of {shape}" + ("" if self.bounds is None else " in [{:g}, {:g}]".format(*self.bounds))
