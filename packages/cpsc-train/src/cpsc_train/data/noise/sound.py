"""Corruption of waveforms (samples,) in [−1, 1], before a spectrogram is computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.modality import Modality
from cpsc_train.data.noise.base import Corruption
from cpsc_train.data.noise.values import set_to_ends
from cpsc_train.data.preprocessing import Scale

Values = NDArray[np.float32]
TALKERS = 6
"""Number of voices in babble."""
SYLLABLES = 4.0
"""Highest frequency of the loudness of one voice, in Hz."""
PACKET = 0.04
"""Length of a dropped segment, in seconds."""


def _snr(x: Values, severity: float, generator: np.random.Generator, _modality: Modality, _scale: Scale) -> Values:
    power = float(np.mean(np.square(x, dtype=np.float64)))
    deviation = np.float32(np.sqrt(power / 10 ** (severity / 10)))
    return np.clip(x + deviation * generator.standard_normal(x.shape, dtype=np.float32), -1, 1)


def _impulses(x: Values, severity: float, generator: np.random.Generator, _modality: Modality, _scale: Scale) -> Values:
    return set_to_ends(x, severity, (-1.0, 1.0), generator)


def _clipping(
    x: Values, severity: float, _generator: np.random.Generator, _modality: Modality, _scale: Scale
) -> Values:
    most = np.float32((1 - severity) * np.abs(x).max(initial=0))
    return np.clip(x, -most, most)


def _babble(x: Values, severity: float, generator: np.random.Generator, modality: Modality, _scale: Scale) -> Values:
    voices = speech_like(len(x), modality.rate or 0, generator)
    power, loudness = (float(np.mean(np.square(one, dtype=np.float64))) for one in (x, voices))
    gain = np.sqrt(power / 10 ** (severity / 10) / loudness) if loudness else 0.0
    return np.clip(x + (gain * voices).astype(np.float32), -1, 1)


def speech_like(samples: int, rate: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the sum of noises with a spectrum and a loudness like those of speech, (samples,).

    The spectrum is flat from 100 to 500 Hz and falls by 9 dB an octave above and 12 dB below, close to the long-term
    average of speech (Byrne et al. 1994); the loudness of each voice varies at up to 4 Hz, as syllables do. It
    contains no words.
    """
    frequencies = np.fft.rfftfreq(samples, 1 / rate)
    gain = np.minimum(1, (frequencies / 100) ** 2) * (np.maximum(frequencies, 500) / 500) ** -1.5
    tones = np.fft.rfft(generator.standard_normal((TALKERS, samples)))
    carriers = np.fft.irfft(gain * tones, samples)
    slow = np.where(frequencies <= SYLLABLES, np.fft.rfft(generator.standard_normal((TALKERS, samples))), 0)
    total: NDArray[np.float64] = (np.abs(np.fft.irfft(slow, samples)) * carriers).sum(0)
    return total


def _dropped_frames(
    x: Values, severity: float, generator: np.random.Generator, modality: Modality, _scale: Scale
) -> Values:
    packet = max(1, round(PACKET * (modality.rate or 0)))
    lost = generator.random(-(-len(x) // packet)) < severity
    return np.where(np.repeat(lost, packet)[: len(x)], np.float32(0), x)


SNR = Corruption(
    name="snr",
    target="sound",
    corrupt=_snr,
    summary="white normal noise is added",
    severity="signal-to-noise ratio in dB; lower is worse",
    levels=(20, 10, 5, 0, -5),
    within=(-np.inf, np.inf),
)
IMPULSES = Corruption(
    name="impulses",
    target="sound",
    corrupt=_impulses,
    summary="samples are set to −1 or 1",
    severity="fraction of the samples",
    levels=(0.001, 0.003, 0.01, 0.03, 0.1),
)
CLIPPING = Corruption(
    name="clipping",
    target="sound",
    corrupt=_clipping,
    summary="the waveform is cut off above a fraction of its largest absolute value",
    severity="fraction of the largest absolute value that is cut off",
    levels=(0.5, 0.7, 0.8, 0.9, 0.95),
)
BABBLE = Corruption(
    name="babble",
    target="sound",
    corrupt=_babble,
    summary="babble-like noise is added: six noises with the spectrum and rhythm of speech, but no words",
    severity="signal-to-noise ratio in dB; lower is worse",
    levels=(20, 10, 5, 0, -5),
    within=(-np.inf, np.inf),
    needs_rate=True,
)
DROPPED_FRAMES = Corruption(
    name="dropped-frames",
    target="sound",
    corrupt=_dropped_frames,
    summary="segments of 40 ms are silenced, like lost packets",
    severity="fraction of the segments",
    levels=(0.1, 0.2, 0.3, 0.5, 0.7),
    needs_rate=True,
)
