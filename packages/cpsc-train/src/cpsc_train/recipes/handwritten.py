"""Default recipe: embedded handwritten digits, an image and feature vectors; half a minute on one core."""

from __future__ import annotations

from dataclasses import replace

from cpsc_train.data import Noise, SplitConfig
from cpsc_train.data.adapters.handwritten import VIEWS, HandwrittenConfig
from cpsc_train.models.encoders.mlp import MLPConfig
from cpsc_train.models.encoders.small_cnn import SmallCNNConfig
from cpsc_train.recipes.base import MODES, Recipe, Released
from cpsc_train.training import ComputeConfig, Mode, RunConfig


def handwritten(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe; ``pix`` is read by a small CNN, every other view by an MLP."""
    data = HandwrittenConfig() if modalities is None else HandwrittenConfig(modalities=modalities)
    images = [name for name in data.modalities if VIEWS[name].kind == "image"]
    vectors = [name for name in data.modalities if VIEWS[name].kind == "vector"]
    noise = [
        *(Noise(modality=name, kind="gaussian", severity=severity) for name in images for severity in (0.5, 1.0)),
        *(
            Noise(modality=name, kind="salt-and-pepper", severity=severity)
            for name in images
            for severity in (0.1, 0.3)
        ),
        *(Noise(modality=name, kind="gaussian", severity=severity) for name in vectors for severity in (1.0, 2.0)),
    ]
    reading = Released(warmup=5, a=0.6, b=0.6, residual=0.05)
    conformal = replace(reading.conformal(mode), alpha=0.1)
    config = RunConfig(
        recipe="handwritten",
        mode=mode,
        data=data,
        splits=SplitConfig(calibration=reading.shares(mode)),
        encoders={name: SmallCNNConfig() if name in images else MLPConfig() for name in data.modalities},
        method=reading.method(mode),
        conformal=conformal,
        noise=tuple(noise),
        compute=ComputeConfig(threads=1),
    )
    return Recipe(config, MODES[mode])
