"""Recipes for recordings of one length: UTD-MHAD with three modalities, and AVLetters; a minute on one core."""

from __future__ import annotations

from cpsc_train.data import Noise
from cpsc_train.data.adapters.avletters import AVLettersConfig
from cpsc_train.data.adapters.utd_mhad import UTDMHADConfig
from cpsc_train.models import EncoderConfig
from cpsc_train.models.encoders.small_cnn import SmallCNNConfig
from cpsc_train.models.encoders.temporal_cnn import TemporalCNNConfig
from cpsc_train.recipes.base import QUICK, Data, Recipe, assemble, choose, noise
from cpsc_train.training import Mode

VIDEOS = ("depth", "lips")


def utd_mhad(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe; a small CNN reads the frames of depth as channels, a temporal CNN the other two."""
    return _recordings(choose(UTDMHADConfig(), modalities), mode)


def avletters(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe; a small CNN reads the frames of the lips as channels, a temporal CNN the MFCC."""
    return _recordings(choose(AVLettersConfig(), modalities), mode)


def _recordings(data: Data, mode: Mode) -> Recipe:
    videos = [name for name in data.modalities if name in VIDEOS]
    series = [name for name in data.modalities if name not in VIDEOS]
    encoders: dict[str, EncoderConfig] = {
        name: SmallCNNConfig() if name in videos else TemporalCNNConfig() for name in data.modalities
    }
    conditions: tuple[Noise, ...] = (*noise(videos, (0.2, 0.4), ()), *noise(series, (1.0, 2.0), ()))
    return assemble(
        mode,
        data,
        encoders,
        **QUICK,
        epochs=40,
        noise=conditions,
    )
